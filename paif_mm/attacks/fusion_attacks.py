"""Attacks on the fusion itself: on what it does with two modalities that no longer agree."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy

import torch
from torch import Tensor

from paif_mm.arguments import named_fraction
from paif_mm.data.colour import INFRARED, VISIBLE, bgr_to_luma
from paif_mm.fusion.average import AverageFusion
from paif_mm.losses.fusion import image_similarity
from paif_mm.perception import PairFuser, require_fuser
from paif_mm.registry import ATTACKS, OBJECTIVES, build
from paif_mm.spelling import choices

from .attack import APGD, MODALITIES, AttackResult
from .frozen import frozen, memory_of, unwrap
from .functional import Budget, Generators, Losses, Worst, complete, look
from .objectives import Questions, check_model, pixel_logits, require_annotations, require_segmentor
from .pixel_losses import right


@OBJECTIVES.register_module()
class Disagreement:
    """Jensen-Shannon divergence, per labelled pixel, of what T sees in either modality alone.

    Fusion rests on two witnesses who tell of one scene. This makes them contradict each other: T's prediction where N
    would pass on the infrared luminance as it is, against that where N would pass on the visible one. In [0, log 2].
    Labels only say which iterate is the worst: the one with most wrong pixels of the true fused image.
    """

    greatest_harm = 1.0
    partial = True  # N is not asked

    def check_model(self, model) -> None:
        require_segmentor(model, 'Disagreement')
        require_fuser(model, 'Disagreement')

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Losses:
        self.check_model(model)
        require_annotations(data_samples)
        fuser = require_fuser(model, 'Disagreement')
        alone = []
        for ir_weight in (1.0, 0.0):
            with passing_on(fuser, ir_weight):
                alone.append(pixel_logits(model, inputs, data_samples, training))
        with torch.no_grad():
            fused = pixel_logits(model, inputs, data_samples, training)
        divergences, wrong = [], []
        for (ir, label), (visible, _), (logits, _) in zip(*alone, fused, strict=True):
            labelled = (label >= 0) & (label < logits.size(1))
            count = labelled.sum((1, 2)).clamp_min(1)
            divergences.append((_divergence(ir, visible) * labelled).sum((1, 2)) / count)
            wrong.append((~right(logits, label) & labelled).sum((1, 2)) / count)
        return Losses(torch.cat(divergences), torch.cat(wrong))


def _divergence(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two softmaxes, logits (N, K, H, W) each -> (N, H, W)."""
    p, q = a.softmax(1), b.softmax(1)
    log_m = ((p + q) / 2).clamp_min(1e-12).log()
    return ((p * (a.log_softmax(1) - log_m)).sum(1) + (q * (b.log_softmax(1) - log_m)).sum(1)) / 2


@contextmanager
def passing_on(fuser: PairFuser, ir_weight: float) -> Iterator[None]:
    """N in place of which a weighted mean of both luminances is passed on: 1 for infrared as it is, 0 for visible."""
    fusion = fuser.fusion
    fuser.fusion = AverageFusion(ir_weight)
    try:
        yield
    finally:
        fuser.fusion = fusion


@OBJECTIVES.register_module()
class PassedOn:
    """Makes N pass on one modality, and what is done to it harm T.

    loss = that of ``objective`` - ``weight`` x mean |u - m|, u the fused luminance and m the luminance of the modality,
    both as attacked, in [0, 1]. The harm is that of the objective.

    Args:
        modality (str): ``'ir'`` or ``'vis'``, the one that is attacked.
        objective (dict): what is to harm T. Default: the model's own loss, ``dict(type='TaskLoss')``.
        weight (float): of the pull. Default: 1.
    """

    def __init__(self, modality: str, objective: dict | None = None, weight: float = 1.0):
        if modality not in MODALITIES:
            raise ValueError(f'there is no modality {modality!r}: {choices(modality, MODALITIES)}')
        self.modality, self.weight = modality, weight
        self.objective = build(OBJECTIVES, objective or {'type': 'TaskLoss'})
        self.scheduled = getattr(self.objective, 'scheduled', False)
        self.greatest_harm = getattr(self.objective, 'greatest_harm', None)

    def check_model(self, model) -> None:
        check_model(self.objective, model)
        require_fuser(model, 'PassedOn')

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Losses:
        found = complete(self.objective(model, inputs, data_samples, clean, training, progress))
        distances = [None] * len(inputs)
        for group in fused_groups(model, inputs, clean, training, 'PassedOn'):
            part = group.pair[:, INFRARED] if self.modality == 'ir' else bgr_to_luma(group.pair[:, VISIBLE])
            for place, distance in zip(group.index, (group.luma - part).abs().mean((1, 2, 3)), strict=True):
                distances[place] = distance
        return found._replace(loss=found.loss - self.weight * torch.stack(distances))


@OBJECTIVES.register_module()
class HiddenInFused:
    """Harms T while the fused image stays clean to the eye: SSIM of at least ``ssim`` with that of the clean pair.

    loss = that of ``objective`` - ``weight`` x max(0, ssim - SSIM(u', u)), on the fused images in colour. An iterate
    below the bound does no harm at all, so that it is never kept over one above. Start at the clean pair, which is
    above it: ``random_start=False``, ``keep='worst'`` of PGD.

    Args:
        objective (dict): what is to harm T. Default: the model's own loss, ``dict(type='TaskLoss')``.
        ssim (float): in (0, 1]. Default: 0.95.
        weight (float): of the penalty, against losses of about 1. Default: 1.
    """

    def __init__(self, objective: dict | None = None, ssim: float = 0.95, weight: float = 1.0):
        ssim = named_fraction('ssim', ssim)
        if not 0 < ssim <= 1:
            raise ValueError(f'ssim must be within (0, 1], not {ssim}')
        self.ssim, self.weight = ssim, weight
        self.objective = build(OBJECTIVES, objective or {'type': 'TaskLoss'})
        self.scheduled = getattr(self.objective, 'scheduled', False)
        self.greatest_harm = getattr(self.objective, 'greatest_harm', None)

    def check_model(self, model) -> None:
        check_model(self.objective, model)
        require_fuser(model, 'HiddenInFused')

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Losses:
        found = complete(self.objective(model, inputs, data_samples, clean, training, progress))
        before = self._before(model, clean, training)
        after = fused_images(model, inputs, clean, training)
        similar = torch.stack([image_similarity(a[None], b[None])[0] for a, b in zip(after, before, strict=True)])
        hidden = similar.detach() >= self.ssim
        loss = found.loss - self.weight * (self.ssim - similar).clamp_min(0)
        return Losses(loss, torch.where(hidden, found.harm, -torch.inf), loss.detach())

    def _before(self, model, clean: Sequence[Tensor], training: bool) -> list[Tensor]:
        """The clean pairs fused, once for all steps of an attack."""
        memory = memory_of(model)
        keys = [('fused', id(image), training) for image in clean]
        if not all(key in memory for key in keys):
            with torch.no_grad():
                fused = fused_images(model, clean, clean, training)
            memory.update(zip(keys, zip(clean, fused, strict=True), strict=True))  # the pair, too: its id stays its own
        return [memory[key][1] for key in keys]


def fused_images(model, inputs: Sequence[Tensor], clean: Sequence[Tensor], training: bool) -> list[Tensor]:
    """Each pair fused, (3, H_i, W_i) in [0, 1]."""
    images = [None] * len(inputs)
    for group in fused_groups(model, inputs, clean, training, 'HiddenInFused'):
        for place, image in zip(group.index, group.fused, strict=True):
            images[place] = image
    return images


def fused_groups(model, inputs, clean, training: bool, who: str) -> list:
    fuser = require_fuser(model, who)
    fuser.fuse(inputs, clean, fuser.canvas(training))
    return fuser.groups


@ATTACKS.register_module()
class WeakestModality(APGD):
    """Spends the whole radius on one modality of each pair: the one where it does more harm.

    Auto-PGD on either modality alone, with N made to pass it on (:class:`PassedOn`); the worse result of each pair is
    kept. An attacker who has one of two cameras in hand, and may choose which.

    Args:
        eps (float | str): radius of the modality that is attacked, in [0, 1] units.
        pull (float): weight of the pull on N, see :class:`PassedOn`. Default: 1.
        steps (int), norm (str), restarts, restarts_at_once (int), large_radii (bool), objective (dict), dtype (str),
            eot_samples (int), bpda (dict): see :class:`~.attack.APGD`; steps are those of each modality.

    Raises:
        ValueError: eps is one per modality; when called, an image is no pair.
    """

    def __init__(
        self,
        eps: float | str,
        steps: int = 100,
        norm: str = 'linf',
        restarts: int = 1,
        restarts_at_once: int = 1,
        large_radii: bool = False,
        objective: dict | None = None,
        dtype: str = 'float32',
        eot_samples: int = 1,
        bpda: dict | None = None,
        pull: float = 1.0,
    ):
        if isinstance(eps, dict):
            raise ValueError(f'eps of WeakestModality is one number, which either modality gets, not {eps}')
        settings = {
            'steps': steps,
            'norm': norm,
            'restarts': restarts,
            'restarts_at_once': restarts_at_once,
            'large_radii': large_radii,
            'dtype': dtype,
            'eot_samples': eot_samples,
            'bpda': bpda,
        }
        super().__init__(eps, objective=objective, **settings)
        self.attacks = {
            name: APGD(
                {name: eps},
                objective={'type': 'PassedOn', 'modality': name, 'objective': objective, 'weight': pull},
                **settings,
            )
            for name in MODALITIES
        }

    def check_model(self, model) -> None:
        super().check_model(model)
        require_fuser(model, 'WeakestModality')

    def __call__(
        self,
        model,
        data_batch: dict,
        index: Sequence[int] | None = None,
        training: bool = False,
        rng: Generators = None,
    ) -> AttackResult:
        """See :meth:`~.attack.Attack.__call__`."""
        model = unwrap(model)
        results = [self._on(name)(model, data_batch, index, training, rng) for name in MODALITIES]
        worst = Worst(results[0].clean)
        for found in results:
            worst.update(found.images, self._losses(model, found, data_batch, training))
        blind = None if results[0].blind is None else torch.stack([found.blind for found in results]).any(0)
        return AttackResult(results[0].index, worst.images, results[0].clean, None, blind)

    def _on(self, modality: str) -> APGD:
        """The attack on one modality, as strong as this one is now: a training may let radius and steps grow."""
        attack = copy(self.attacks[modality])
        attack.eps, attack.step_size, attack.steps = {modality: self.eps}, {modality: self.step_size}, self.steps
        return attack

    def _losses(self, model, found: AttackResult, data_batch: dict, training: bool) -> Losses:
        """Of one modality's result, by the same draws of the model as of the other's."""
        samples = [data_batch['data_samples'][i].to(found.images[0].device) for i in found.index]
        with frozen(model):
            ask = Questions(self.objective, model, samples, found.clean, training, self.eot_samples)
            return look(ask, found.images)

    def budgets(self, channels: int) -> list[Budget]:
        """Of each modality, of which one is used at a time."""
        if channels != 4:
            raise ValueError(f'WeakestModality chooses between two modalities, but the images have {channels} channels')
        return [Budget(part, self.eps * 255, self.step_size * 255) for part in MODALITIES.values()]
