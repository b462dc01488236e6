"""Attacks on detectors with an aim: objects vanish, are made up, or are called something else (TOG)."""

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import box_iou

from paif_mm.checks import class_count
from paif_mm.registry import OBJECTIVES
from paif_mm.spelling import choices

from .objectives import own_losses, require_annotations, require_detector
from .targeted import class_index

AIMS = ('vanishing', 'fabrication', 'mislabelling')
GRID = 4  # made-up boxes side by side


@OBJECTIVES.register_module()
class TOG:
    """Targeted attacks on the objects of a detector (TOG, Chow et al. 2020), by its own training loss.

    Each lowers the loss on annotations that the attacker wishes for:

    * ``vanishing``: no objects at all;
    * ``fabrication``: the true ones, and made-up ones wherever there is room, a :data:`GRID` of them;
    * ``mislabelling``: the true boxes with other classes.

    TOG fabricates by raising the objectness everywhere. Detectors trained by a focal loss, whose slope vanishes where
    nothing is seen, are hardly moved by that; made-up objects move them, and any other detector. TOG starts from the
    benign detections, we from the annotations, as all attacks of this package.

    Args:
        aim (str): one of these.
        target (int | str | None): the class, index or name of the data set, that all objects are to be called, in
            ``mislabelling``; its own objects then become the next class. Default: the next class of each.

    Raises:
        ValueError: there is no such aim; a target without mislabelling; when called, an unknown class.
        TypeError: when called, the data samples hold no boxes, or, for fabrication, masks beside them.
    """

    def __init__(self, aim: str, target: int | str | None = None):
        if aim not in AIMS:
            raise ValueError(f'TOG has no aim {aim!r}: {choices(aim, AIMS)}')
        if target is not None and aim != 'mislabelling':
            raise ValueError(f'a target is for mislabelling, not for {aim}')
        self.aim, self.target = aim, target

    def check_model(self, model) -> None:
        require_detector(model, 'TOG')

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Tensor:
        require_annotations(data_samples)
        losses = []
        for image, sample in zip(inputs, data_samples, strict=True):
            found = own_losses(model, image, self._wanted(model, sample, training), training)
            losses.append(-model.parse_losses(found)[0])
        return torch.stack(losses)

    def _wanted(self, model, sample, training: bool):
        """A copy of a data sample with the annotations that the attacker wishes for."""
        if 'bboxes' not in sample.get('gt_instances', ()):
            raise TypeError(f'TOG attacks detectors of boxes, not {type(model).__name__}')
        sample, instances = sample.clone(), sample.gt_instances.clone()
        if self.aim == 'vanishing':
            instances = instances[torch.zeros_like(instances.labels, dtype=torch.bool)]
        elif self.aim == 'mislabelling':
            instances.labels = self._other(model, instances.labels)
        else:
            if 'masks' in instances:
                raise TypeError(f'TOG makes up boxes, but {type(model).__name__} is trained on masks, too')
            height, width = sample.metainfo['img_shape' if training else 'ori_shape'][:2]  # of the annotations
            instances = self._with_made_up(model, instances, height, width)
        sample.gt_instances = instances
        return sample

    def _other(self, model, labels: Tensor) -> Tensor:
        classes = class_count(model)
        if classes < 2:
            raise ValueError(f'{type(model).__name__} knows one class: nothing can be mislabelled')
        following = (labels + 1) % classes
        if self.target is None:
            return following
        target = class_index(self.target, model, classes)
        return torch.where(labels == target, following, target)

    def _with_made_up(self, model, instances, height: int, width: int):
        """The annotations, and boxes of a grid that touch none of them; one class after the other."""
        boxes = instances.bboxes
        corners = getattr(boxes, 'tensor', boxes)  # of mmdet's box types
        cells = made_up_boxes(height, width).to(corners)
        if len(corners):
            cells = cells[(box_iou(cells, corners) == 0).all(1)]
        corners = torch.cat([corners, cells])
        labels = torch.arange(len(cells), device=corners.device) % class_count(model)
        return InstanceData(
            bboxes=corners if isinstance(boxes, Tensor) else type(boxes)(corners),
            labels=torch.cat([instances.labels, labels.to(instances.labels)]),
        )


def made_up_boxes(height: int, width: int) -> Tensor:
    """Boxes (GRID x GRID, 4) side by side over an image."""
    edges = torch.linspace(0, 1, GRID + 1)
    y0, x0 = torch.meshgrid(edges[:-1] * height, edges[:-1] * width, indexing='ij')
    return torch.stack([x0, y0, x0 + width / GRID, y0 + height / GRID], -1).view(-1, 4)
