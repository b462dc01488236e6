"""One perturbation for many images: a patch that may be anywhere, and a universal perturbation of the whole image.

Both are learned over a data set once, and then shown to any model as an attack that asks it nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paif_mm.arguments import named_fraction
from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.randomness import OwnDraws
from paif_mm.registry import ATTACKS, OBJECTIVES, build
from paif_mm.spelling import choices

from .attack import Attack, AttackResult
from .bank import read_pair
from .bpda import read_bpda, substituted
from .frozen import frozen, unwrap
from .functional import Budget, Generators, accumulate, check_samples, complete, drawn_integers, per_image
from .objectives import check_model

PARTS = {'both': slice(0, 4), 'ir': INFRARED, 'vis': VISIBLE}
SCALES = (0.2, 0.35)  # sides of a patch, as shares of the image's shorter side
IGNORED = 255
MOMENTUM = 0.9


class _Learned(Attack):
    """What was learned before: it changes images whatever the model."""

    def __call__(
        self,
        model,
        data_batch: dict,
        index: Sequence[int] | None = None,
        training: bool = False,
        rng: Generators = None,
    ) -> AttackResult:
        """See :meth:`~.attack.Attack.__call__`."""
        device = next(unwrap(model).parameters()).device
        index = list(range(len(data_batch['inputs']))) if index is None else list(index)
        clean = [data_batch['inputs'][i].to(device).float() for i in index]
        return AttackResult(index, [self.changed(image, g) for image, g in per_image(clean, rng)], clean, None)


@ATTACKS.register_module()
class PatchAttack(_Learned):
    """A patch at a random place of each image, in a random size; visible, infrared, or both registered.

    Args:
        file (str): of ``tools/learn_patch.py``: a PNG of 8 bits with the channels B, G, R, IR.
        modality (str): what it covers: ``'both'``, ``'ir'`` or ``'vis'``.
        scale (Sequence[float]): shortest and longest side, as shares of the image's shorter side. Default: .2, .35.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of a patch; a setting is none of these; when called, an image is no pair.
    """

    def __init__(
        self, file: str, modality: str = 'both', scale: Sequence[float] = SCALES, objective: dict | None = None
    ):
        super().__init__(objective)
        if not Path(file).is_file():
            raise FileNotFoundError(f'PatchAttack: the patch {file} does not exist: learn it by tools/learn_patch.py')
        self.patch = read_pair(Path(file)).float()
        if self.patch.size(0) != 4:
            raise ValueError(f'PatchAttack: {file} has {self.patch.size(0)} channels, but a patch has B, G, R and IR')
        self.part, self.scale = part_of(modality), checked_scale(scale)

    def changed(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        place = random_place(image.shape[1:], self.scale, generator)
        return paste(image, self.patch.to(image), self.part, *place)[0].round()


@ATTACKS.register_module()
class UniversalPerturbation(_Learned):
    """The same perturbation for every image of a size (Moosavi-Dezfooli et al., CVPR 2017).

    Args:
        file (str): of ``tools/learn_patch.py --universal``: a NumPy array (C, H, W) in pixel values.
        eps (float | str): the radius that it keeps, in [0, 1] units.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it goes further than ``eps``; when called, an image is of another size.
    """

    def __init__(self, file: str, eps: float | str, objective: dict | None = None):
        super().__init__(objective)
        if not Path(file).is_file():
            raise FileNotFoundError(
                f'UniversalPerturbation: {file} does not exist: learn it by tools/learn_patch.py --universal'
            )
        self.file, self.eps = file, named_fraction('eps', eps)
        self.delta = torch.from_numpy(np.load(file, allow_pickle=False)).float()
        reach = float(self.delta.abs().max())
        if reach > 255 * self.eps * (1 + 1e-4):
            raise ValueError(f'UniversalPerturbation: {file} goes as far as {reach:.4g}/255, not {255 * self.eps:.4g}')

    def changed(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        if image.shape != self.delta.shape:
            raise ValueError(
                f'UniversalPerturbation: {self.file} was learned on images {tuple(self.delta.shape)}, '
                f'but one is {tuple(image.shape)}'
            )
        return (image + self.delta.to(image)).clamp(0, 255)

    def budgets(self, channels: int) -> list[Budget]:
        """Of the modality alone that it changes, where it leaves the other one of a pair as it is."""
        for part in (INFRARED, VISIBLE) if channels == len(self.delta) == 4 else ():
            if self.delta[part].any() and torch.count_nonzero(self.delta) == torch.count_nonzero(self.delta[part]):
                return [Budget(part, 255 * self.eps, 0.0)]
        return [Budget(slice(0, channels), 255 * self.eps, 0.0)]


def part_of(modality: str) -> slice:
    if modality not in PARTS:
        raise ValueError(f'there is no modality {modality!r}: {choices(modality, PARTS)}')
    return PARTS[modality]


def checked_scale(scale: Sequence[float]) -> tuple[float, float]:
    """Raise a ValueError where a scale is no (shortest, longest) share of a side."""
    numbers = isinstance(scale, list | tuple) and len(scale) == 2 and all(isinstance(v, int | float) for v in scale)
    if not numbers or not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f'scale must be two shares of the shorter side, the smaller one first, not {scale!r}')
    return tuple(scale)


def random_place(size: Sequence[int], scale: tuple[float, float], generator) -> tuple[int, int, int]:
    """Side, top and left in pixels: sides and places alike likely, the patch always within the image."""
    shortest, longest = (max(round(share * min(size)), 1) for share in scale)
    side = int(drawn_integers(shortest, longest + 1, (), generator))
    top, left = (int(drawn_integers(0, length - side + 1, (), generator)) for length in size)
    return side, top, left


def paste(image: Tensor, patch: Tensor, part: slice, side: int, top: int, left: int) -> tuple[Tensor, Tensor]:
    """An image (4, H, W) with a patch (4, h, w) of another size in some channels, and what it covers, (H, W) bool.

    Differentiable in the patch.

    Raises:
        ValueError: the image is no pair.
    """
    if image.size(0) != 4:
        raise ValueError(f'a patch covers pairs (4, H, W), but an image has {image.size(0)} channels')
    seen = F.interpolate(patch[None], (side, side), mode='bilinear', antialias=True, align_corners=False)[0]
    covered = image.clone()
    covered[part, top : top + side, left : left + side] = seen[part]
    mask = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    mask[top : top + side, left : left + side] = True
    return covered, mask


class PatchRange:
    """What a patch may look like.

    Args:
        visible: darkest and lightest value in [0, 1]: (0, 1) on a screen; print keeps about (.1, .9).
        infrared: coldest and hottest grey level in [0, 1], see :func:`grey_level`.
        blocks: heating elements side by side; each is all hot or all cold. 0: any level anywhere.
    """

    def __init__(self, visible=(0.0, 1.0), infrared=(0.0, 1.0), blocks: int = 0):
        for name, (low, high) in (('visible', visible), ('infrared', infrared)):
            if not 0 <= low < high <= 1:
                raise ValueError(f'the {name} range must be rising within [0, 1], not {low} to {high}')
        self.visible, self.infrared, self.blocks = visible, infrared, blocks


def grey_level(celsius: float, coldest: float, hottest: float) -> float:
    """What a camera that shows temperatures of a range linearly makes of one, in [0, 1]; beyond the range it clips."""
    if not coldest < hottest:
        raise ValueError(f"a camera's range must be rising, not {coldest} to {hottest} degrees")
    return min(max((celsius - coldest) / (hottest - coldest), 0.0), 1.0)


def learn_patch(
    model,
    batches: Iterable[dict],
    size: int = 64,
    modality: str = 'both',
    scale: tuple[float, float] = SCALES,
    limits: PatchRange | None = None,
    objective: dict | None = None,
    step_size: float = 8 / 255,
    seed: int = 0,
    eot_samples: int = 1,
    bpda: dict | None = None,
    others: Sequence[Mapping] = (),
) -> Tensor:
    """One patch that does harm wherever it is, in whatever size (EOT; Brown et al. 2017).

    Each batch shows it at random places and sizes; its values follow the sign of the mean gradient, with momentum. What
    it covers is not labelled any more, so that hiding things behind it is no success.

    Learned on several models at once, of other architectures best, it is to transfer to one that is not among them (Liu
    et al., ICLR 2017): the gradients of all, each scaled to a mean of 1, so that none outweighs the others, are
    averaged.

    Args:
        model: an OpenMMLab model, wrapped or not; stays as it is.
        batches: as a data loader gives them, one step for each.
        size: side of the patch in its own pixels.
        modality, scale: see :class:`PatchAttack`.
        limits: what it may look like. Default: anything.
        objective: what it maximises. Default: the model's own loss.
        step_size: in [0, 1] units.
        seed: of all random numbers.
        eot_samples, bpda: see :class:`~.attack.PGD`.
        others: further models that it is learned on: ``dict(model=..., eot_samples=..., bpda=...)`` each.

    Returns:
        (4, size, size) uint8, grey in channels that it does not cover.

    Raises:
        ValueError: no gradient reaches the patch; an image is no pair; see :func:`~.bpda.substituted`.
    """
    follow = _Bank([{'model': model, 'eot_samples': eot_samples, 'bpda': bpda}, *others], objective)
    device, limits, part = follow.device, limits or PatchRange(), part_of(modality)
    generator = torch.Generator().manual_seed(seed)
    shape = (4, size, size)
    patch = torch.rand(shape, generator=generator).to(device)  # in shares of the range
    velocity = None
    for batch in batches:
        patch.requires_grad_()
        levels = _levels(patch, limits)
        images, samples, clean = [], [], []
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
            clean.append(image.to(device).float())
            place = random_place(image.shape[1:], scale, generator)
            shown, covered = paste(clean[-1], levels, part, *place)
            images.append(shown)
            samples.append(_without_labels(sample.to(device), covered))
        velocity = accumulate(velocity, [follow(patch, images, samples, clean)], MOMENTUM)
        with torch.no_grad():
            patch = (patch + step_size * velocity[0].sign()).clamp(0, 1)
    with torch.no_grad():
        found = _levels(patch.detach(), limits).round().clamp(0, 255)
        covered = torch.full_like(found, 127)
        covered[part] = found[part]
    return covered.to(torch.uint8).cpu()


class _Bank:
    """The gradient of a batch's mean loss towards what its images are made of; of several models, their scaled mean."""

    def __init__(self, models: Sequence[Mapping], objective: dict | None):
        self.members = [_Slopes(objective=objective, **model) for model in models]
        self.device = self.members[0].device

    def __call__(self, learned: Tensor, images: list[Tensor], samples: list, clean: list[Tensor]) -> Tensor:
        again = len(self.members) > 1  # the images' part of the graph
        slopes = [follow(learned, images, samples, clean, again) for follow in self.members]
        return sum(slopes if not again else accumulate(None, slopes, 0.0))


class _Slopes:
    """Of one model; finite, a mean over the draws."""

    def __init__(self, model, objective: dict | None, eot_samples: int = 1, bpda: dict | None = None):
        self.model, self.objective = unwrap(model), build(OBJECTIVES, objective or {'type': 'TaskLoss'})
        check_model(self.objective, self.model)
        self.eot_samples, self.bpda = check_samples(eot_samples), read_bpda(bpda)
        self.device = next(self.model.parameters()).device
        self.draws = OwnDraws(self.device)

    def __call__(
        self, learned: Tensor, images: list[Tensor], samples: list, clean: list[Tensor], again: bool
    ) -> Tensor:
        total, partial = torch.zeros_like(learned), getattr(self.objective, 'partial', False)
        with frozen(self.model), substituted(self.model, self.bpda, partial), self.draws:
            for left in reversed(range(self.eot_samples)):
                loss = complete(self.objective(self.model, images, samples, clean, False, 0.0)).loss.mean()
                if not loss.requires_grad:
                    raise ValueError(
                        f'no gradient of {type(self.objective).__name__} reaches the images: give the module that '
                        'leaves the graph a surrogate, adaptive=dict(bpda={MODULE: SURROGATE})'
                    )
                total += torch.autograd.grad(loss, learned, retain_graph=again or left > 0)[0]
        return torch.nan_to_num(total / self.eot_samples, nan=0.0, posinf=0.0, neginf=0.0)


def _levels(patch: Tensor, limits: PatchRange) -> Tensor:
    """Pixel values of a patch in shares of its range; blocks are hot above one half, with the slope of the share."""
    (dark, light), (cold, hot) = limits.visible, limits.infrared
    infrared = patch[INFRARED]
    if limits.blocks:
        share = F.adaptive_avg_pool2d(infrared[None], limits.blocks)  # of each block's values
        share = share + ((share > 0.5).to(share) - share).detach()
        infrared = F.interpolate(share, infrared.shape[-2:], mode='nearest')[0]
    return 255 * torch.cat([dark + (light - dark) * patch[VISIBLE], cold + (hot - cold) * infrared])


def _without_labels(sample, covered: Tensor):
    """A segmentation's data sample with nothing labelled where something else is in front; others as they are."""
    if 'gt_sem_seg' not in sample:
        return sample
    sample = sample.clone()
    label = sample.gt_sem_seg.data.clone()
    mask = F.interpolate(covered[None, None].float(), label.shape[-2:], mode='nearest')[0] > 0
    label[mask] = IGNORED
    sample.set_field(type(sample.gt_sem_seg)(data=label), 'gt_sem_seg')
    return sample


def learn_universal(
    model,
    batches: Iterable[dict],
    eps: float,
    modality: str = 'both',
    objective: dict | None = None,
    step_size: float | None = None,
    eot_samples: int = 1,
    bpda: dict | None = None,
    others: Sequence[Mapping] = (),
) -> Tensor:
    """One perturbation within a ball of L-inf that does harm to every image of a size.

    Signed steps along the mean gradient of each batch (Shafahi et al., AAAI 2020), with momentum.

    Args:
        model, batches, objective, eot_samples, bpda, others: see :func:`learn_patch`.
        eps: radius in [0, 1] units.
        modality: what it changes; see :class:`PatchAttack`.
        step_size: in the same units. Default: eps / 10.

    Returns:
        (C, H, W) float, in pixel values.

    Raises:
        ValueError: images are of several sizes, or no pairs where one modality alone is asked for; no gradient reaches
            them; see :func:`~.bpda.substituted`.
    """
    follow = _Bank([{'model': model, 'eot_samples': eot_samples, 'bpda': bpda}, *others], objective)
    device = follow.device
    radius = 255 * eps
    step = radius / 10 if step_size is None else 255 * step_size
    delta, velocity = None, None
    for batch in batches:
        clean = [image.to(device).float() for image in batch['inputs']]
        shapes = {tuple(image.shape) for image in clean} | ({tuple(delta.shape)} if delta is not None else set())
        if len(shapes) > 1:
            raise ValueError(f'a universal perturbation is for images of one size, but there are {sorted(shapes)}')
        if delta is None:
            if modality != 'both' and clean[0].size(0) != 4:
                raise ValueError(f'modality {modality!r} needs pairs, but images have {clean[0].size(0)} channels')
            delta, part = torch.zeros_like(clean[0]), part_of(modality)
        delta.requires_grad_()
        images = [(image + delta).clamp(0, 255) for image in clean]
        samples = [sample.to(device) for sample in batch['data_samples']]
        velocity = accumulate(velocity, [follow(delta, images, samples, clean)], MOMENTUM)
        with torch.no_grad():
            moved = torch.zeros_like(delta)
            moved[part] = (delta[part] + step * velocity[0][part].sign()).clamp(-radius, radius)
            delta = moved
    if delta is None:
        raise ValueError('a universal perturbation needs images, but there are none')
    return delta.detach().cpu()
