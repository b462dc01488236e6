"""Harmonized Defence Search (PAIF, ACM MM 2023, Alg. 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mmengine.dist import all_reduce_params
from mmengine.runner import IterBasedTrainLoop
from torch import Tensor, nn

from paif_mm.attacks import AdversarialAttackHook
from paif_mm.attacks.frozen import unwrap
from paif_mm.engine.places import batches_from
from paif_mm.fusion import find_supernet, untracked_statistics
from paif_mm.randomness import kept_draws
from paif_mm.registry import LOOPS

from . import bilevel as bilevel_methods
from .efficiency import ExpectedCost
from .halves import check_apart, halve
from .hook import ArchitectureHook


@LOOPS.register_module()
class HDSTrainLoop(IterBasedTrainLoop):
    """Searches the operations of a :class:`FusionSupernet` while it trains the whole model (PAIF, Sec. 2.2, Alg. 1).

    Every iteration trains the weights of N and T on a batch that an ``AdversarialAttackHook`` may have mixed; after
    the warm start, every ``arch_interval``-th also moves the alphas, on a clean batch of a second data loader. An
    :class:`ArchitectureHook` writes what is found; it is added if the config has none.

    ``optim_wrapper`` must be made by :class:`HDSOptimWrapperConstructor`. Architecture steps run in fp32.

    Args:
        runner (Runner): the runner.
        dataloader (dict | DataLoader): training data.
        max_iters (int): iterations, the warm start among them.
        arch_dataloader (dict | DataLoader, optional): data of the architecture steps, taken up again from its beginning
            whenever it ends; it must share no sample with the training data. Default: the training set is split in two
            random halves, the same in every run, and this is ``dataloader`` on the second.
        split_seed (int): seed of that split.
        warmup_iters (int): iterations before the first architecture step (Alg. 1, line 1). Set ``begin`` of the
            attack hook to the same number for a warm start on clean pairs.
        arch_interval (int): weight steps per architecture step. Default: 5, the paper's.
        bilevel (str): ``'best_response'`` (default, the paper's), ``'one_step'`` or ``'first_order'``; see
            :mod:`paif_mm.search.bilevel`.
        lower_level (str): whose weights answer to the alphas in the bilevel problem: ``'fusion'`` (default: N, Eq. 4)
            or ``'model'`` (N and T). Both are trained in any case.
        upper_level (str): ``'clean'`` pairs in architecture steps (default), or ``'mixed'``: attacked as the training
            batches are, the same loss on both levels.
        unroll_step (float, optional): step of ``'one_step'``. Default: the weights' learning rate at that time.
        efficiency_weight (float): weight of the expected cost of the relaxed network in the upper level; the cost is 1
            while undecided. Default: 0.
        efficiency_measure (str): ``'flops'`` or ``'params'``.
        val_begin, val_interval, dynamic_intervals: as in mmengine's ``IterBasedTrainLoop``.
    """

    def __init__(
        self,
        runner,
        dataloader,
        max_iters: int,
        arch_dataloader=None,
        split_seed: int = 0,
        warmup_iters: int = 0,
        arch_interval: int = 5,
        bilevel: str = 'best_response',
        lower_level: str = 'fusion',
        upper_level: str = 'clean',
        unroll_step: float | None = None,
        efficiency_weight: float = 0.0,
        efficiency_measure: str = 'flops',
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ):
        _check('bilevel', bilevel, bilevel_methods.METHODS)
        _check('lower_level', lower_level, ('fusion', 'model'))
        _check('upper_level', upper_level, ('clean', 'mixed'))
        if arch_interval < 1:
            raise ValueError(f'arch_interval must be at least 1, not {arch_interval}')
        if warmup_iters < 0:
            raise ValueError(f'warmup_iters must not be negative: {warmup_iters}')
        given = arch_dataloader is not None
        if not given:
            dataloader, arch_dataloader = halve(dataloader, split_seed)
        super().__init__(runner, dataloader, max_iters, val_begin, val_interval, dynamic_intervals)
        if isinstance(arch_dataloader, dict):
            different = runner._randomness_cfg.get('diff_rank_seed', False)
            arch_dataloader = runner.build_dataloader(arch_dataloader, seed=runner.seed, diff_rank_seed=different)
        self.arch_dataloader = arch_dataloader
        if given:
            check_apart(self.dataloader.dataset, arch_dataloader.dataset, runner.logger)
        self.arch_iterator = batches_from(arch_dataloader, 0)
        self.warmup_iters = warmup_iters
        self.arch_interval = arch_interval
        self.bilevel = bilevel
        self.lower_level = lower_level
        self.upper_level = upper_level
        self.unroll_step = unroll_step
        self.model = unwrap(runner.model)  # architecture steps average over processes themselves
        self.supernet = find_supernet(self.model)
        self.efficiency_weight = efficiency_weight
        self.expected_cost = ExpectedCost(self.supernet, efficiency_measure)
        if not any(isinstance(hook, ArchitectureHook) for hook in runner.hooks):
            runner.register_hook(ArchitectureHook())

    def run(self) -> nn.Module:
        """Search; a resumed search goes on with the next batch of either loader."""
        optim_wrapper = self.runner.optim_wrapper
        if set(optim_wrapper.keys() if hasattr(optim_wrapper, 'keys') else ()) != {'weights', 'alphas'}:
            raise TypeError(
                "HDSTrainLoop needs optim_wrapper=dict(constructor='paif_mm.HDSOptimWrapperConstructor', "
                'weights=dict(<your optim_wrapper>), alphas=dict(optimizer=...))'
            )
        optim_wrapper['weights'].initialize_count_status(self.runner.model, self._iter, self._max_iters)
        done = sum(self.is_architecture_iter(i) for i in range(self._iter))
        if done:
            self.arch_iterator = batches_from(self.arch_dataloader, done)
        return super().run()

    def run_iter(self, data_batch: dict) -> None:
        """Alg. 1, lines 3 to 6."""
        self.runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=data_batch)  # attacks a share of it
        outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper['weights'])
        if self.is_architecture_iter(self._iter):
            outputs['loss_val'] = self.architecture_step(data_batch)
        self.runner.call_hook('after_train_iter', batch_idx=self._iter, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def is_architecture_iter(self, iteration: int) -> bool:
        """Whether the weight step of this iteration (from 0) is followed by an architecture step."""
        done = iteration + 1 - self.warmup_iters
        return done > 0 and done % self.arch_interval == 0

    def architecture_step(self, train_batch: dict) -> Tensor:
        """Move the alphas once, and nothing else; returns L_val, a scalar.

        Args:
            train_batch (dict): the batch of L_tr, as the last weight step saw it.
        """
        val_batch = next(self.arch_iterator)
        if self.upper_level == 'mixed':
            done = (self._iter + 1 - self.warmup_iters) // self.arch_interval - 1  # architecture steps
            for hook in self.runner.hooks:
                if isinstance(hook, AdversarialAttackHook) and self._iter >= hook.begin:
                    hook.attack_share(self.model, val_batch, done, stream='architecture')
        alphas = self.supernet.alphas()
        train_loss = BatchLoss(self.model, train_batch)
        val_loss = BatchLoss(self.model, val_batch, self._efficiency)
        with requiring_gradients(alphas), untracked_statistics(self.model):
            directions = self._method()(train_loss, val_loss, self._lower_weights(), alphas, gradients=mean_gradients)
        for alpha, direction in zip(alphas, directions, strict=True):
            alpha.grad = direction
        optim_wrapper = self.runner.optim_wrapper['alphas']
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return val_loss.value

    def _method(self):
        method = bilevel_methods.METHODS[self.bilevel]
        if self.bilevel != 'one_step':
            return method
        step = self.unroll_step
        if step is None:
            step = self.runner.optim_wrapper['weights'].get_lr()['lr'][0]
        return partial(method, unroll_step=step)

    def _lower_weights(self) -> list[nn.Parameter]:
        if self.lower_level == 'fusion':
            return [weight for weight in self.supernet.weights() if weight.requires_grad]
        alphas = {id(alpha) for alpha in self.supernet.alphas()}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) not in alphas]

    def _efficiency(self) -> Tensor | float:
        return self.efficiency_weight * self.expected_cost() if self.efficiency_weight else 0.0


class BatchLoss:
    """The model's training loss on one batch, as a function without arguments.

    Every call draws the same random numbers (dropout) and leaves the generators as they were. ``value`` is the loss of
    the last call without the ``extra`` term, detached.
    """

    def __init__(self, model: nn.Module, data_batch: dict, extra=lambda: 0.0):
        self.model = model
        self.data_batch = data_batch
        self.extra = extra
        self.value: Tensor | None = None

    def __call__(self) -> Tensor:
        with kept_draws(next(self.model.parameters()).device):
            data = self.model.data_preprocessor(self.data_batch, True)
            loss, _ = self.model.parse_losses(self.model(**data, mode='loss'))
        self.value = loss.detach()
        return loss + self.extra()


def mean_gradients(loss: Tensor, tensors) -> list[Tensor]:
    """d loss / d tensors, averaged over the processes."""
    result = bilevel_methods.gradients(loss, tensors)
    all_reduce_params(result, op='mean')
    return result


@contextmanager
def requiring_gradients(parameters) -> Iterator[None]:
    """Let parameters that are otherwise held still ask for gradients."""
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def _check(name: str, value: str, known) -> None:
    if value not in known:
        raise ValueError(f'{name} must be one of {", ".join(known)}, not {value!r}')
