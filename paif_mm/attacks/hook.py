"""Attacks batches on their way to the model, in training, validation or test."""

from collections.abc import Sequence

import torch
from mmengine.hooks import Hook

from paif_mm.losses.weighting import ImageWeights, attacked_weights
from paif_mm.perception import find_fuser, require_fuser
from paif_mm.registry import ATTACKS, HOOKS, build

from .attack import PGD, AttackResult
from .audit import Audit
from .frozen import fingerprint, unwrap

PHASES = ('train', 'val', 'test')


@HOOKS.register_module()
class AdversarialAttackHook(Hook):
    """Replaces a share of ``data_batch['inputs']`` by attacked images, before each iteration of the chosen phases.

    In training, the attack sees the annotations that the model is about to be trained on, and the clean pairs travel
    on as ``data_batch['clean_inputs']`` for the fusion loss of a fused model. Evaluations attack every image and end
    with an audit line (see :class:`Audit`).

    Args:
        attack (dict): the attack, e.g. ``dict(type='PGD', eps=8 / 255, steps=5)``.
        ratio (float): share of the training images that are attacked. Exact: 0.25 of 4 is always one image, and
            where it leaves a fraction, it is carried to the next iteration. Which images is drawn at random. Default:
            0.5, the paper's and the compromise of docs/results.md ("How much of each batch to attack").
        phases (tuple[str]): of ``'train'``, ``'val'``, ``'test'``.
        begin (int): training iterations on clean images before the first attack (a warm start). Default: 0.
        weight (float | None): lambda of Eq. 4: the training loss of a fused model becomes
            (L_clean + weight * L_attacked) / (1 + weight), each averaged over its own images. Default: None, the mean
            over the batch.
    """

    def __init__(
        self,
        attack: dict,
        ratio: float = 0.5,
        phases: Sequence[str] = ('train',),
        begin: int = 0,
        weight: float | None = None,
    ):
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio must be within [0, 1], not {ratio}')
        unknown = set(phases) - set(PHASES)
        if unknown:
            raise ValueError(f'phases must be among {PHASES}, not {", ".join(sorted(unknown))}')
        self.attack: PGD = build(ATTACKS, attack)
        self.ratio = ratio
        self.phases = tuple(phases)
        if weight is not None and weight < 0:
            raise ValueError(f'weight must not be negative: {weight}')
        self.begin = begin
        self.weight = weight
        self.audit = Audit()

    def before_train(self, runner) -> None:
        if self.weight is None:
            return
        model = unwrap(runner.model)
        self._image_weights = ImageWeights(model, require_fuser(model, 'weight of AdversarialAttackHook'))

    def after_train(self, runner) -> None:
        if self.weight is not None:
            self._image_weights.remove()

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if 'train' not in self.phases or runner.iter < self.begin:
            return
        size = len(data_batch['inputs'])
        count = attacked_count(runner.iter, size, self.ratio)
        if count:
            index = sorted(torch.randperm(size)[:count].tolist())
            if self.weight is not None:
                data_batch['image_weights'] = attacked_weights(size, index, self.weight)
            self._replace(runner.model, data_batch, self.attack(runner.model, data_batch, index, training=True))

    def before_val_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        self._evaluate(runner, data_batch, 'val')

    def before_test_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        self._evaluate(runner, data_batch, 'test')

    def before_val_epoch(self, runner) -> None:
        self._open_audit(runner, 'val')

    def before_test_epoch(self, runner) -> None:
        self._open_audit(runner, 'test')

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        self._close_audit(runner, 'val')

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        self._close_audit(runner, 'test')

    def _evaluate(self, runner, data_batch: dict, phase: str) -> None:
        if phase not in self.phases:
            return
        result = self.attack(runner.model, data_batch)
        before = self.attack.losses(runner.model, result.clean, result, data_batch)
        after = result.losses
        if after is None:
            after = self.attack.losses(runner.model, result.images, result, data_batch)
        self.audit.update(result, self.attack, before, after)
        self._replace(runner.model, data_batch, result)

    def _open_audit(self, runner, phase: str) -> None:
        if phase in self.phases:
            self.audit = Audit()
            self._fingerprint = fingerprint(unwrap(runner.model))

    def _close_audit(self, runner, phase: str) -> None:
        if phase in self.phases:
            self.audit.untouched = fingerprint(unwrap(runner.model)) == self._fingerprint
            runner.logger.info(str(self.audit.reduce()))

    @staticmethod
    def _replace(model, data_batch: dict, result: AttackResult) -> None:
        inputs = list(data_batch['inputs'])
        if find_fuser(unwrap(model)) is not None:
            data_batch['clean_inputs'] = list(inputs)
        for place, image in zip(result.index, result.images, strict=True):
            inputs[place] = image
        stacked = isinstance(data_batch['inputs'], torch.Tensor)
        data_batch['inputs'] = torch.stack([image.to(result.images[0]) for image in inputs]) if stacked else inputs


def attacked_count(iteration: int, size: int, ratio: float) -> int:
    """Images to attack in one iteration, so that after t iterations floor(t * size * ratio) have been attacked."""

    def total(iterations: int) -> int:
        return int(iterations * size * ratio + 1e-6)

    return total(iteration + 1) - total(iteration)
