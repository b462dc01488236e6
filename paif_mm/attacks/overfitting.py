"""Watches single-step adversarial training for its one disease."""

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from paif_mm.files import hash_seed
from paif_mm.randomness import kept_draws, shared_seed
from paif_mm.registry import ATTACKS, HOOKS, OBJECTIVES, build

from .attack import Attack, AttackResult
from .frozen import frozen, unwrap
from .functional import complete
from .hook import AdversarialAttackHook

FELL_BACK = 'adversarial_fallback'


@HOOKS.register_module()
class OverfittingMonitorHook(Hook):
    """Tells when a model has learnt to defeat the attack of its training alone: catastrophic overfitting.

    Training by single steps may, within a few hundred iterations, teach a model to mislead single steps while several
    steps go on to defeat it (Wong et al., ICLR 2020). So a few held-out pairs are attacked both ways at intervals.
    Harm is what both add to the share of wrong pixels (of models other than segmentors: to the loss); the model is
    reported when the training attack does much less of it than the stronger one. ``monitor_clean``,
    ``monitor_training_attack`` and ``monitor_attack`` go to the training log.

    Args:
        attack (dict): the stronger attack, e.g. ``dict(type='PGD', eps=8 / 255, steps=10, keep='last')``.
        interval (int): training iterations between two looks. Default: 500.
        images (int): held-out pairs, spread over the validation set. Default: 8.
        least (float): share of the stronger attack's harm below which the training attack's is too little. Default:
            0.5.
        fallback (dict | None): the attack to train with from then on, also in a resumed training. Default: the one
            that there was, and a warning in the log.
    """

    def __init__(
        self,
        attack: dict,
        interval: int = 500,
        images: int = 8,
        least: float = 0.5,
        fallback: dict | None = None,
    ):
        if interval < 1 or images < 1:
            raise ValueError(f'interval and images must be at least 1, not {interval} and {images}')
        if not 0 < least < 1:
            raise ValueError(f'least must be within (0, 1), not {least}')
        self.attack: Attack = build(ATTACKS, attack)
        self.fallback = fallback and build(ATTACKS, fallback)
        self.interval, self.images, self.least = interval, images, least

    def before_train(self, runner) -> None:
        attacking = [hook for hook in runner.hooks if isinstance(hook, AdversarialAttackHook)]
        if len(attacking) != 1 or 'train' not in attacking[0].phases:
            raise TypeError('OverfittingMonitorHook needs one AdversarialAttackHook that attacks in training')
        if runner.val_loop is None:
            raise TypeError('OverfittingMonitorHook needs a validation set: set val_dataloader, val_cfg, val_evaluator')
        self._attacking = attacking[0]
        self._seed = shared_seed(runner)
        dataset = runner.val_loop.dataloader.dataset
        count = min(self.images, len(dataset))
        self._batch = pseudo_collate([dataset[i * len(dataset) // count] for i in range(count)])
        segments = hasattr(unwrap(runner.model), 'decode_head')
        self._objective = build(OBJECTIVES, {'type': 'PixelLoss' if segments else 'TaskLoss'})
        if self.fallback is not None and runner.message_hub.runtime_info.get(FELL_BACK):
            self._attacking.use(self.fallback)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        clean, single, strong = self._harms(runner).tolist()
        for name, value in (('clean', clean), ('training_attack', single), ('attack', strong)):
            runner.message_hub.update_scalar(f'train/monitor_{name}', value)
        if strong <= clean or single - clean >= self.least * (strong - clean):
            return
        runner.logger.warning(
            f'catastrophic overfitting: the training attack raises the harm from {clean:.3f} to {single:.3f} only, '
            f'{type(self.attack).__name__} to {strong:.3f}'
        )
        if self.fallback is not None and self._attacking.attack is not self.fallback:
            self._attacking.use(self.fallback)
            runner.message_hub.update_info(FELL_BACK, runner.iter + 1)
            runner.logger.warning(f'training goes on with {type(self.fallback).__name__}')

    def _harms(self, runner) -> torch.Tensor:
        """Mean harm over the held-out pairs: clean, under the training attack, under the stronger one; (3,).

        Of all processes, whose batch-norm statistics differ: they must decide alike.
        """
        results = [attack(runner.model, self._batch, rng=self._rng()) for attack in self._attacks()]
        shown = [results[0].clean, *(result.images for result in results)]
        harms = torch.tensor([self._harm(runner.model, images, results[0]) for images in shown])
        all_reduce(harms, 'mean')
        return harms

    def _attacks(self) -> tuple[Attack, Attack]:
        return self._attacking.attack, self.attack

    def _rng(self) -> list[torch.Generator]:
        places = range(len(self._batch['inputs']))
        return [torch.Generator().manual_seed(hash_seed(self._seed, 'monitor', place)) for place in places]

    def _harm(self, model, images: list[torch.Tensor], result: AttackResult) -> float:
        model, device = unwrap(model), images[0].device
        samples = [sample.to(device) for sample in self._batch['data_samples']]
        with frozen(model), torch.no_grad(), kept_draws(device):
            return float(complete(self._objective(model, images, samples, result.clean, False)).harm.mean())
