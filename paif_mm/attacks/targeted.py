"""Targeted attacks on segmentations: pixels of one class are to become another, and the others are to stay."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from paif_mm.registry import OBJECTIVES
from paif_mm.spelling import choices

from .functional import Losses
from .objectives import pixel_logits, require_annotations, require_segmentor

GOAL = ('source', 'target', 'region')


@OBJECTIVES.register_module()
class Targeted:
    """Makes pixels of one class another one, in the whole image or in a part of it, and keeps the rest right.

    loss = -mean of the cross-entropy towards the targets over pixels that have one and are not yet there
    - ``keep`` x mean of the cross-entropy towards the labels over all other labelled pixels. The harm is the success
    rate, the share of pixels with a target that are predicted as it. An image without such pixels is left alone.

    Args:
        goals (list[dict]): each ``dict(source='person', target='road')``; ``source`` may be missing (every labelled
            pixel), ``region=(x0, y0, x1, y1)`` in shares of the width and height limits it to a part of the image.
            Where several name a pixel, the last one counts. Classes are names of the data set, or indices.
        keep (float): Default: 1.

    Raises:
        ValueError: a goal has no target, another key, or a region that is none; when called, an unknown class.
    """

    def __init__(self, goals: Sequence[dict], keep: float = 1.0):
        if not goals:
            raise ValueError("Targeted needs goals, e.g. goals=[dict(source='person', target='road')]")
        for goal in goals:
            for key in goal:
                if key not in GOAL:
                    raise ValueError(f'a goal of Targeted has no {key!r}: {choices(key, GOAL)}')
            if 'target' not in goal:
                raise ValueError(f'a goal of Targeted needs a target, e.g. dict(source=..., target=...), not {goal}')
            if (region := goal.get('region')) is not None:
                check_region(region)
        self.goals, self.keep = [dict(goal) for goal in goals], keep

    def check_model(self, model) -> None:
        require_segmentor(model, 'Targeted')

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Losses:
        self.check_model(model)
        require_annotations(data_samples)
        found = []
        for logits, label in pixel_logits(model, inputs, data_samples, training):
            goals = [self._known(goal, model, logits.size(1)) for goal in self.goals]
            found.append(self._losses(logits, label, targets_of(label, goals, logits.size(1))))
        return Losses(torch.cat([losses.loss for losses in found]), torch.cat([losses.harm for losses in found]))

    def _known(self, goal: Mapping, model, classes: int) -> dict:
        named = {
            key: class_index(goal[key], model, classes) for key in ('source', 'target') if goal.get(key) is not None
        }
        return {**goal, **named}

    def _losses(self, logits: Tensor, label: Tensor, target: Tensor) -> Losses:
        """(N, K, H, W), (N, H, W) and (N, H, W), -1 where a pixel has no target."""
        aimed = target >= 0
        there = logits.max(1).indices == target
        others = ~aimed & (label >= 0) & (label < logits.size(1))
        towards = F.cross_entropy(logits, target.clamp_min(0), reduction='none') * (aimed & ~there)
        kept = F.cross_entropy(logits, torch.where(others, label, 0), reduction='none') * others
        count = aimed.sum((1, 2))
        loss = -towards.sum((1, 2)) / count.clamp_min(1) - self.keep * kept.sum((1, 2)) / others.sum((1, 2)).clamp_min(
            1
        )
        success = (aimed & there).sum((1, 2)) / count.clamp_min(1)
        return Losses(torch.where(count > 0, loss, 0 * loss), success)


def targets_of(label: Tensor, goals: Sequence[Mapping], classes: int) -> Tensor:
    """What each pixel (N, H, W) is to become, -1 where it has no target; of goals with class indices."""
    target = torch.full_like(label, -1)
    for goal in goals:
        chosen = (label >= 0) & (label < classes) if goal.get('source') is None else label == goal['source']
        if goal.get('region') is not None:
            chosen = chosen & _inside(goal['region'], label)
        target = torch.where(chosen, goal['target'], target)
    return target


def _inside(region: Sequence[float], label: Tensor) -> Tensor:
    x0, y0, x1, y1 = region
    height, width = label.shape[-2:]
    y = (torch.arange(height, device=label.device) + 0.5) / height
    x = (torch.arange(width, device=label.device) + 0.5) / width
    return ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))


def check_region(region) -> None:
    """Raise a ValueError where a region is no (x0, y0, x1, y1) in shares of the image."""
    numbers = isinstance(region, list | tuple) and len(region) == 4 and all(isinstance(v, int | float) for v in region)
    if not numbers or not (0 <= region[0] < region[2] <= 1 and 0 <= region[1] < region[3] <= 1):
        raise ValueError(f'a region must be (x0, y0, x1, y1) in shares of width and height, not {region!r}')


def class_index(name: str | int, model, classes: int) -> int:
    """The index of a class, by its name in ``model.dataset_meta`` (as OpenMMLab's inference sets it), or itself.

    Raises:
        ValueError: the model has no such class, or nobody has told it their names.
    """
    if isinstance(name, str):
        known = (getattr(model, 'dataset_meta', None) or {}).get('classes')
        if known is None:
            raise ValueError(f'the classes have no names here: give the index of {name!r}')
        if name not in known:
            raise ValueError(f'there is no class {name!r}: {choices(name, known)}')
        return list(known).index(name)
    if not 0 <= name < classes:
        raise ValueError(f'there is no class {name}: the model has {classes}, from 0')
    return name
