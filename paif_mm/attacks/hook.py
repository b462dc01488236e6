"""Attacks batches on their way to the model, in training, validation or test."""

import os.path as osp
from collections.abc import Sequence

import torch
from mmengine.dist import all_gather, all_reduce, get_dist_info, get_world_size
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.optim import OptimWrapperDict

from paif_mm.arguments import named_fraction
from paif_mm.checks import check_run
from paif_mm.engine.repeats import unrepeated
from paif_mm.files import hash_seed
from paif_mm.losses.logits import plain_heads
from paif_mm.losses.trades import Trades, Twins
from paif_mm.losses.weighting import ImageWeights, attacked_weights
from paif_mm.perception import find_fuser, require_fuser
from paif_mm.randomness import shared_seed
from paif_mm.registry import ATTACKS, HOOKS, build

from .alignment import GradientAlignment, aligned
from .attack import PGD, Attack, AttackResult
from .audit import Audit
from .frozen import fingerprint, unwrap
from .ramps import Ramps

PHASES = ('train', 'val', 'test')
LOOK = 50  # training iterations between looks at gradients that are not finite


@HOOKS.register_module()
class AdversarialAttackHook(Hook):
    """Replaces a share of ``data_batch['inputs']`` by attacked images, before each iteration of the chosen phases.

    In training, the attack sees the annotations that the model is about to be trained on, and the clean pairs travel
    on as ``data_batch['clean_inputs']`` for the fusion loss of a fused model. Evaluations attack every image and end
    with an audit line (see :class:`Audit`).

    Several processes are one experiment: share and weight are of the global batch, that of all processes together
    dealt out in turns, as mmengine's samplers do (with parts of one size). Random numbers belong to the run's seed and
    the image's place in the global batch, in evaluations to the image's file name, so that neither the number of
    processes nor a resumed training changes them, and no global generator is touched.

    Args:
        attack (dict): the attack, e.g. ``dict(type='PGD', eps=8 / 255, steps=5)``; the cheapest that holds is
            ``dict(type='NFGSM', eps=8 / 255)``.
        ratio (float): share of the training images that are attacked. Exact: 0.25 of 4 is always one image, and
            where it leaves a fraction, it is carried to the next iteration. Which images is drawn at random. Default:
            0.5, the paper's and the compromise of docs/results.md ("How much of each batch to attack").
        phases (tuple[str] | str): of ``'train'``, ``'val'``, ``'test'``.
        begin (int): training iterations on clean images before the first attack (a warm start). Default: 0.
        weight (float | None): lambda of Eq. 4: the training loss of a fused model becomes
            (L_clean + weight * L_attacked) / (1 + weight), each averaged over its own images. Default: None, the mean
            over the batch.
        trades (float | None): beta of TRADES (Zhang et al., ICML 2019): L_clean + beta * KL(p_clean || p_attacked), the
            divergence of the two predictions averaged over labelled pixels. Attacked pairs join the batch beside their
            clean ones, so that each is passed once. For segmentors. Default: None, attacked pairs take the place of
            the clean ones.
        align (float | None): lambda of GradAlign (Andriushchenko and Flammarion, NeurIPS 2020), which keeps training by
            single steps from collapsing, e.g. 0.2: adds align * (1 - cos) of the gradients at an attacked image's clean
            pair and at a random point of the ball around it, which are differentiated in turn: several times the price
            of the step itself (see :class:`~.alignment.GradientAlignment`). Default: None.
        ramp (dict | None): iterations, from ``begin`` on, over which ``eps`` and ``ratio`` grow linearly from 0, and
            ``steps`` from 1, to what they are, e.g. ``dict(eps=2000)``. Default: full from the start.

    Attributes:
        audit (Audit): of the last evaluation.
        blind (int | Tensor): training images attacked by gradients that are not finite, since they were last counted.
    """

    def __init__(
        self,
        attack: dict,
        ratio: float = 0.5,
        phases: Sequence[str] | str = ('train',),
        begin: int = 0,
        weight: float | None = None,
        trades: float | None = None,
        align: float | None = None,
        ramp: dict[str, int] | None = None,
    ):
        ratio = named_fraction('ratio', ratio)
        if not 0 <= ratio <= 1:
            raise ValueError(f'ratio must be within [0, 1], not {ratio}')
        phases = phases if isinstance(phases, list | tuple) else (phases,)
        unknown = [str(phase) for phase in phases if phase not in PHASES]
        if unknown:
            raise ValueError(f'phases must be among {PHASES}, not {", ".join(unknown)}')
        if not isinstance(begin, int) or begin < 0:
            raise ValueError(f'begin must be a number of iterations, not {begin!r}')
        self.attack: Attack = build(ATTACKS, attack)
        if self.attack.for_training and set(phases) != {'train'}:
            raise ValueError(
                f'{attack["type"]} is for training alone: its perturbations leave the ball of radius eps, so that '
                f'phases={tuple(phases)} would measure another one'
            )
        self.ratio = ratio
        self.phases = tuple(phases)
        weight = None if weight is None else named_fraction('weight', weight)
        trades = None if trades is None else named_fraction('trades', trades)
        if weight is not None and weight < 0:
            raise ValueError(f'weight must not be negative: {weight}')
        if trades is not None and (trades <= 0 or weight is not None):
            raise ValueError(f'trades must be positive, and without a weight: trades={trades}, weight={weight}')
        align = None if align is None else named_fraction('align', align)
        if align is not None and align <= 0:
            raise ValueError(f'align must be positive: {align}')
        if align is not None and not isinstance(self.attack, PGD):
            raise TypeError(f'align needs an attack with a radius, not {type(self.attack).__name__}')
        self.begin = begin
        self.weight = weight
        self.trades = trades
        self.align = align
        self.ramps = Ramps(self.attack, ramp or {})
        self._iteration = 0  # of the training, counted from begin
        self.audit = Audit()
        self._fingerprint: str | None = None
        self._seen = 0  # images of this evaluation
        self.blind: int | torch.Tensor = 0
        self._seed = 0

    def before_run(self, runner) -> None:
        check_run(runner)  # of a project whose Runner does not
        self.attack.check_model(unwrap(runner.model))
        self._seed = shared_seed(runner)

    def before_train(self, runner) -> None:
        self._seams = []
        model = unwrap(runner.model)
        if self.align is not None:
            if isinstance(runner.optim_wrapper, OptimWrapperDict):
                raise TypeError('align of AdversarialAttackHook is for ordinary training, not for a search')
            if any(getattr(module, 'compiled', False) for module in model.modules()):
                raise TypeError(
                    'align of AdversarialAttackHook differentiates twice, which compile=True does not allow'
                )
            self._alignment = GradientAlignment(model, self.align)
            self._seams.append(self._alignment)  # before what weighs the losses of images, and not this one
        if self.weight is not None:
            self._seams.append(ImageWeights(model, require_fuser(model, 'weight of AdversarialAttackHook')))
        if self.trades is not None:
            fuser = require_fuser(model, 'trades of AdversarialAttackHook')
            heads = plain_heads(model)
            if heads is None:
                raise TypeError(
                    'trades of AdversarialAttackHook compares logits, which the decode head of '
                    f'{type(model).__name__} does not have or not alone'
                )
            self._seams += [ImageWeights(model, fuser), Trades(heads[0], fuser, self.trades)]

    def after_train(self, runner) -> None:
        for seam in reversed(self._seams):
            seam.remove()

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if runner.iter >= self.begin:
            self._iteration = runner.iter - self.begin
            self.attack_share(runner.model, data_batch, runner.iter)

    def use(self, attack: Attack) -> None:
        """Train with another attack from now on, at its full strength."""
        self.attack = attack
        self.ramps = Ramps(attack, {})

    def attack_share(self, model, data_batch: dict, turn: int, stream: str = 'train') -> None:
        """Attack the images of a training batch whose turn it is, if the hook attacks in training.

        Args:
            model (nn.Module): wrapped or not.
            data_batch (dict): this process's part of the global batch; changed in place.
            turn (int): which batch of its stream it is, from 0.
            stream (str): names the source of batches; others are attacked by other random numbers.
        """
        if 'train' not in self.phases:
            return
        size, (rank, world) = len(data_batch['inputs']), get_dist_info()
        if self.weight is not None:
            require_one_size(size)
        places = range(rank, size * world, world)  # as samplers deal a data set out
        everyone = size * world
        ratio = self.ratio * self.ramps.grown('ratio', self._iteration)
        count = attacked_count(turn, everyone, ratio)
        if self.weight is not None and 0 < count < everyone:
            clean, attacked = attacked_weights(everyone, count, self.weight)
            data_batch['image_weights'] = [clean] * size
        chosen = attacked_places(everyone, count, self._generator('which', stream, turn))
        index = [i for i, place in enumerate(places) if place in chosen]
        if not index:
            return
        if 'image_weights' in data_batch:
            for i in index:
                data_batch['image_weights'][i] = attacked
        device = next(unwrap(model).parameters()).device
        rng = [self._generator(stream, turn, places[i], device=device) for i in index]
        attack = self.ramps.at(self._iteration)
        result = attack(model, data_batch, index, training=True, rng=rng)
        if result.blind is not None:
            self.blind = result.blind.sum() + self.blind  # on the device: not looked at in every iteration
        share = len(index) * world / count
        if self.align is not None:
            rng = [self._generator('align', stream, turn, places[i], device=device) for i in index]
            samples = [data_batch['data_samples'][i].to(device) for i in index]
            self._alignment.ask(aligned(attack, unwrap(model), result.clean, samples, rng, share))
        if self.trades is None:
            replace(model, data_batch, result)
        else:
            join(data_batch, result, share)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if 'train' not in self.phases:
            return
        if self.every_n_train_iters(runner, LOOK) or self.is_last_train_iter(runner):
            blind, self.blind = torch.tensor(int(self.blind)), 0
            all_reduce(blind)  # only the first process's log is read
            if blind:
                runner.logger.warning(
                    f'{int(blind)} images were attacked by gradients that are not finite: they point nowhere'
                )

    def before_val_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        self._evaluate(runner, data_batch, 'val')

    def before_test_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        self._evaluate(runner, data_batch, 'test')

    def before_val_epoch(self, runner) -> None:
        self._open_audit(runner, 'val')

    def before_test_epoch(self, runner) -> None:
        self._open_audit(runner, 'test')

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._look_again(runner, batch_idx, 'val', data_batch)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._look_again(runner, batch_idx, 'test', data_batch)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        self._close_audit(runner, 'val')

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        self._close_audit(runner, 'test')

    def _evaluate(self, runner, data_batch: dict, phase: str) -> None:
        if phase not in self.phases:
            return
        if isinstance(unwrap(runner.model), BaseTTAModel):
            raise TypeError('an attack needs one plain forward pass: test without --tta, or without the attack hook')
        if self._fingerprint is None:  # now that the loop has set the mode, and hooks may have exchanged the weights
            self._fingerprint = fingerprint(unwrap(runner.model))
        rng = [self._generator(osp.basename(sample.get('img_path', ''))) for sample in data_batch['data_samples']]
        result = self.attack(runner.model, data_batch, rng=rng)
        before = self.attack.losses(runner.model, result.clean, result, data_batch)
        after = result.losses
        if after is None:
            after = self.attack.losses(runner.model, result.images, result, data_batch)
        counted = unrepeated(getattr(runner, f'{phase}_dataloader'), self._seen, len(result.images))
        self._seen += len(result.images)
        self.audit.update(result, self.attack, before, after, counted)
        self._clean = data_batch['inputs']
        replace(runner.model, data_batch, result)

    def _open_audit(self, runner, phase: str) -> None:
        if phase in self.phases:
            name_classes(unwrap(runner.model), getattr(runner, f'{phase}_dataloader', None))
            self.audit, self._fingerprint, self._seen = Audit(), None, 0
            self.attack.prepare(getattr(getattr(runner, f'{phase}_dataloader'), 'dataset', None))

    def _look_again(self, runner, batch_idx: int, phase: str, data_batch: dict | None) -> None:
        """After the last batch: hooks that exchanged the weights for this evaluation are about to undo it.

        Strips show what the batch was before, also of a model that would not have known what ``clean_inputs`` are.
        """
        if phase in self.phases and data_batch is not None:
            data_batch.setdefault('clean_inputs', self._clean)
        if phase in self.phases and self.end_of_epoch(getattr(runner, f'{phase}_dataloader'), batch_idx):
            self.audit.untouched = fingerprint(unwrap(runner.model)) == self._fingerprint

    def _close_audit(self, runner, phase: str) -> None:
        if phase in self.phases:
            runner.logger.info(str(self.audit.reduce()))

    def _generator(self, *parts, device='cpu') -> torch.Generator:
        return torch.Generator(device).manual_seed(hash_seed(self._seed, *parts))


def name_classes(model, loader) -> None:
    """Tell a model what its classes are called, as OpenMMLab's inference does, for attacks that name some."""
    meta = getattr(getattr(loader, 'dataset', None), 'metainfo', None)
    if meta:
        model.dataset_meta = meta


def replace(model, data_batch: dict, result: AttackResult) -> None:
    """Put attacked images in the place of the clean ones; these stay as ``clean_inputs`` of a fused model."""
    inputs = _beside(data_batch['inputs'], result)
    if find_fuser(unwrap(model)) is not None:
        data_batch['clean_inputs'] = list(inputs)
    for place, image in zip(result.index, result.images, strict=True):
        inputs[place] = image
    _put(data_batch, inputs, result)


def join(data_batch: dict, result: AttackResult, share: float) -> None:
    """Put attacked images at the end of a batch, after all clean ones; only these count in the losses.

    ``share`` is that of :class:`~paif_mm.losses.trades.Twins`.
    """
    inputs, samples, copies = _beside(data_batch['inputs'], result), list(data_batch['data_samples']), result.index
    data_batch['clean_inputs'] = inputs + [inputs[i] for i in copies]
    data_batch['data_samples'] = samples + [samples[i] for i in copies]
    data_batch['image_weights'] = [(len(inputs) + len(copies)) / len(inputs)] * len(inputs) + [0.0] * len(copies)
    data_batch['twins'] = Twins(copies, share)
    _put(data_batch, inputs + result.images, result)


def _beside(inputs, result: AttackResult) -> list:
    """A batch's images where the attacked ones are: those that are also ``clean_inputs`` go there once."""
    return [image.to(result.images[0].device) for image in inputs]


def _put(data_batch: dict, inputs: list, result: AttackResult) -> None:
    stacked = isinstance(data_batch['inputs'], torch.Tensor)
    data_batch['inputs'] = torch.stack([image.to(result.images[0]) for image in inputs]) if stacked else inputs


def attacked_count(turn: int, size: int, ratio: float) -> int:
    """Images to attack in one batch, so that after t batches floor(t * size * ratio) have been attacked."""

    def total(turns: int) -> int:
        return int(turns * size * ratio + 1e-6)

    return total(turn + 1) - total(turn)


def attacked_places(size: int, count: int, generator: torch.Generator) -> set[int]:
    """Which of a batch's images to attack: so many in a row from a random one, the first after the last.

    Every image has the same chance, and processes that are dealt the images in turns have equal work, up to one image.
    """
    start = int(torch.randint(size, (), generator=generator))
    return {(start + i) % size for i in range(count)}


def require_one_size(size: int) -> None:
    """Raise a ValueError, in all processes, where their batches differ in size."""
    if get_world_size() == 1:
        return
    sizes = [int(other) for other in all_gather(torch.tensor([size]))]
    if len(set(sizes)) > 1:
        raise ValueError(
            f'weight of AdversarialAttackHook needs batches of one size, but the processes have {sizes} images: set '
            'drop_last=True in train_dataloader'
        )
