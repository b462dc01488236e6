"""Models of pairs as one function of tensors, which other programs can run: what ``tools/export.py`` writes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from paif_mm.dual_stream import DualStreamSegmentor
from paif_mm.perception import FusionBackbone, find_fuser, normalised_channels, require_fuser
from paif_mm.perception.fuser import luminances

PARTS = {'fusion': ['fused'], 'segmentor': ['fused', 'logits'], 'detector': ['fused', 'boxes', 'scores', 'labels']}


def deployed(model: nn.Module, part: str = 'model') -> 'Deployed':
    """A model in evaluation mode as a :class:`Deployed`.

    Args:
        model: a segmentor (``EncoderDecoder``) that is fused, or whose backbone takes pairs; a fused FCOS; or with
            ``part='fusion'`` any fused model.
        part: ``'model'`` or ``'fusion'``, the fusion network alone.

    Raises:
        ValueError: another kind of model.
    """
    if part == 'fusion':
        return Deployed(model).eval()
    kind = type(model).__name__
    if (kind == 'EncoderDecoder' or isinstance(model, DualStreamSegmentor)) and model.test_cfg.mode == 'whole':
        of_features = find_fuser(model) is None and normalised_channels(model) != 3
        return (DeployedTwoStreams if of_features else DeployedSegmentor)(model).eval()
    if kind == 'FCOS':
        return DeployedDetector(model).eval()
    raise ValueError(
        f'{kind} can not be exported: EncoderDecoder (test_cfg.mode "whole") and FCOS can, and --part fusion exports '
        'the fusion network of any model'
    )


def _normalised_as(module: nn.Module, source: nn.Module) -> None:
    """Give a module the ``mean`` and ``std`` of a preprocessor, (1, C, 1, 1) each."""
    for name, value in (('mean', 0.0), ('std', 1.0)):
        own = getattr(source, name, torch.tensor(value)).detach().clone()
        module.register_buffer(name, own.reshape(1, -1, 1, 1))


class Deployed(nn.Module):
    """The fusion alone: pairs (N, 4, H, W), B,G,R,IR in [0, 255], float, to images (N, 3, H, W), B,G,R in [0, 255]."""

    outputs = PARTS['fusion']

    def __init__(self, model: nn.Module):
        super().__init__()
        self.fuser = require_fuser(model, 'export')

    def forward(self, pairs: Tensor) -> tuple[Tensor, ...]:
        return (self.fused(pairs),)

    def fused(self, pairs: Tensor) -> Tensor:
        pair = pairs / 255
        return self.fuser.image(pair, self.fuser.luma(*luminances(pair))) * 255


class DeployedModel(Deployed):
    """The fusion, and the model behind it without its preprocessor, whose normalisation is done here."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        inside = isinstance(self.fuser, FusionBackbone)
        task = model.data_preprocessor if inside else self.fuser.task
        self.model, self.backbone = model, self.fuser.backbone if inside else model.backbone
        self.to_rgb = inside or self.fuser._converts
        self.divisor = getattr(task, 'pad_size_divisor', 1)
        _normalised_as(self, self.fuser if inside else task)

    def features(self, fused: Tensor):
        """The backbone's (and neck's) of fused images, padded as the preprocessor pads them."""
        image = ((fused.flip(1) if self.to_rgb else fused) - self.mean) / self.std
        if self.divisor > 1:
            height, width = image.shape[-2:]
            image = F.pad(image, (0, -width % self.divisor, 0, -height % self.divisor))
        features = self.backbone(image)
        return self.model.neck(features) if self.model.with_neck else features


class DeployedSegmentor(DeployedModel):
    """Pairs to fused images, and logits (N, classes, H, W)."""

    outputs = PARTS['segmentor']

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        fused, head = self.fused(pairs), self.model.decode_head
        logits = head(self.features(fused))
        size = pairs.shape[-2:]
        return fused, F.interpolate(logits, size=size, mode='bilinear', align_corners=head.align_corners)


class DeployedTwoStreams(nn.Module):
    """Pairs to logits (N, classes, H, W), by a segmentor whose backbone takes pairs: there is no fused image."""

    outputs = ['logits']

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        _normalised_as(self, model.data_preprocessor)

    def forward(self, pairs: Tensor) -> tuple[Tensor]:
        head = self.model.decode_head
        logits = head(self.model.extract_feat((pairs - self.mean) / self.std))
        return (F.interpolate(logits, size=pairs.shape[-2:], mode='bilinear', align_corners=head.align_corners),)


class DeployedDetector(DeployedModel):
    """One pair (1, 4, H, W) to its fused image, boxes (M, 4: corners in its pixels), scores (M,) and labels (M,).

    Post-processing is mmdet's own for FCOS: the best ``nms_pre`` of each level, times centerness, non-maximum
    suppression of each class, the best ``max_per_img``. A sort and a mask stand for its top-k, whose number may not
    depend on the size of an image in a graph.
    """

    outputs = PARTS['detector']

    def __init__(self, model: nn.Module):
        super().__init__(model)
        config = model.bbox_head.test_cfg
        self.pre, self.most = int(config.nms_pre), int(config.max_per_img)
        self.least, self.iou = float(config.score_thr), float(config.nms.iou_threshold)
        smallest = config.get('min_bbox_size', -1)
        if smallest > 0:
            raise ValueError(f'min_bbox_size={smallest} counts pixels of files, whose scale no graph knows: set 0')
        self.flat = smallest < 0  # whether boxes without an area count

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        fused, head = self.fused(pairs), self.model.bbox_head
        levels = head(self.features(fused))
        sizes = [scores.shape[-2:] for scores in levels[0]]
        points = head.prior_generator.grid_priors(sizes, dtype=pairs.dtype, device=pairs.device)
        found = [self._level(*level) for level in zip(*levels, points, strict=True)]
        ranks, scores, distances, centres, labels = (torch.cat(part) for part in zip(*found, strict=True))
        height, width = pairs.shape[-2:]
        corners = torch.stack([centres - distances[:, :2], centres + distances[:, 2:]], 1)  # (n, 2, 2)
        boxes = torch.stack([corners[..., 0].clamp(0, width), corners[..., 1].clamp(0, height)], 2).flatten(1)
        kept = ranks > self.least  # as in mmdet, before the centerness is counted in
        if not self.flat:
            kept = kept & (boxes[:, 2:] > boxes[:, :2]).all(1)  # else they lie beyond the image, in its padding
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        apart = labels[:, None].to(boxes) * (height + width + 1)  # boxes of two classes never overlap
        best = nms(boxes + apart, scores, self.iou)[: self.most]
        return fused, boxes[best], scores[best], labels[best]

    def _level(self, classes: Tensor, distances: Tensor, centerness: Tensor, points: Tensor) -> tuple[Tensor, ...]:
        """One level's class scores (-1 beyond the best), scores, distances, points and labels, those of each class."""
        number = classes.shape[1]
        ranks, order = classes[0].permute(1, 2, 0).reshape(-1).sigmoid().sort(descending=True)
        ranks = ranks.where(torch.arange(ranks.shape[0], device=ranks.device) < self.pre, -1.0)
        place = order // number
        scores = ranks * centerness[0].reshape(-1)[place].sigmoid()
        return ranks, scores, distances[0].permute(1, 2, 0).reshape(-1, 4)[place], points[place], order % number
