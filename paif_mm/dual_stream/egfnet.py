"""EGFNet (Zhou et al., AAAI 2022): edge-aware guidance of two streams."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from paif_mm.registry import MODELS

from .blocks import conv_bn, doubled, resized
from .edges import edge_map
from .segmentor import CROSS_ENTROPY, DualStreamSegmentor

DILATIONS = (1, 2, 3, 4)


@MODELS.register_module()
class EGFNet(DualStreamSegmentor):
    """One ResNet for both modalities, and an edge map of the pair that guides what is said.

    Features of each level, narrowed to one width, are fused by products with their sum and by dilated convolutions; the
    top is added to every level below. Logits are strengthened by edges: z + z * g(edges). The edge map, a file beside
    each pair in the original, is computed from the pair in every pass (:func:`~.edges.edge_map`), so that attacks on
    the pair reach it. The loss is cross-entropy of the classes, and of side outputs: the classes of levels 5 and 4,
    and the boundaries of levels 3, 2 and 1, all guided by edges.

    Args:
        backbone (dict): settings of mmseg's or mmpretrain's ResNet over the default, e.g. ``dict(depth=18)``.
            Default: ResNet-152, and ResNet-50 of ``'paif'``.
        channels (int): width of all levels. Default: 64.
        variant (str): ``'published'``, or ``'paif'``: what PAIF's release made of it, the sum of the fused levels 1 to
            3, without edges, and its logits twice as large.
        decode_head (dict): settings of its :class:`EdgeGuidedHead`: ``num_classes``, ``loss_decode`` for other losses.
        side_losses (dict): losses of ``semantic``, ``boundary3``, ``boundary2`` and ``boundary1`` in place of the
            defaults.
        kwargs: ``data_preprocessor``, ``train_cfg``, ``test_cfg`` and ``init_cfg`` of mmseg's ``EncoderDecoder``.

    Raises:
        ValueError: there is no such variant or side output.
    """

    depths = {'published': 152, 'paif': 50}
    levels = {'published': 5, 'paif': 3}
    sides = {
        'semantic': ('classes', CROSS_ENTROPY),
        'boundary3': ('boundaries', CROSS_ENTROPY),
        'boundary2': ('boundaries', CROSS_ENTROPY),
        'boundary1': ('boundaries', CROSS_ENTROPY),
    }

    def __init__(
        self,
        backbone: dict | None = None,
        channels: int = 64,
        variant: str = 'published',
        decode_head: dict | None = None,
        side_losses: dict | None = None,
        **kwargs,
    ):
        self.guided = variant == 'published'
        head = {'type': 'paif_mm.EdgeGuidedHead', 'channels': channels, 'edges': self.guided}
        head['loss_decode'] = CROSS_ENTROPY
        super().__init__(variant, backbone, {**head, **(decode_head or {})}, side_losses, **kwargs)
        self.neck = EGFNetNeck(self.backbone.channels, channels, self.out_channels if self.guided else 0)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return self.neck(self.backbone(inputs), self.edges(inputs) if self.guided else None)

    def edges(self, inputs: Tensor) -> Tensor:
        """The edge map (N, 1, H, W) of normalised pairs (N, 4, H, W); means don't matter."""
        return edge_map(inputs * getattr(self.data_preprocessor, 'std', 1.0))


class EGFNetNeck(nn.Module):
    """Levels of (visible, infrared) to decoded features at the size of the images, and logits of side outputs.

    Args:
        in_channels: of each level.
        channels (int): width of all fused levels.
        classes (int): of the semantic side output; 0: neither side outputs nor levels 4 and 5.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, classes: int):
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv2d(width, channels, 3, padding=1) for width in in_channels)
        self.fuse = nn.ModuleList(Fusion(channels) for _ in in_channels)
        self.context = None
        if classes:
            self.context, self.enhance = Context(channels), Enhancement(channels)
            outputs = (2, 2, 2, classes, classes)
            self.side = nn.ModuleList(_conv(channels, output) for output in outputs)
            self.boundary = nn.Conv2d(2, 2, 1)  # of all three levels
            self.semantic = Semantic(classes)

    def forward(self, levels: Sequence[tuple[Tensor, Tensor]], edges: Tensor | None) -> tuple[Tensor, ...]:
        fused = [
            fuse(narrow(visible), narrow(infrared))
            for fuse, narrow, (visible, infrared) in zip(self.fuse, self.narrow, levels, strict=True)
        ]
        x = guide = self._guide(fused)
        for level in fused[2::-1]:
            above = [resized(part, level) for part in (x, guide) if part is not None]
            x = sum(above, start=level)
        return doubled(x) if edges is None else resized(x, edges), edges, *fused

    def _guide(self, fused: list[Tensor]) -> Tensor | None:
        """What levels 5 and 4 say to those below, at the size of level 3."""
        if self.context is None:
            return None
        return resized(self.enhance(resized(self.context(fused[4]), fused[3]), fused[3]), fused[2])

    def sides(self, _: Tensor, edges: Tensor, *fused: Tensor) -> tuple[Tensor, ...]:
        said = [side(level) for side, level in zip(self.side, fused, strict=True)]
        boundaries = [self.boundary(resized(maps, edges)) * edges for maps in said[2::-1]]
        return self.semantic(said[4], said[3], edges), *boundaries


class Fusion(nn.Module):
    """The products of both with their sum, a residual block, and dilated convolutions beside each other."""

    def __init__(self, channels: int):
        super().__init__()
        self.merge = nn.Conv2d(2 * channels, channels, 1)
        self.residual = nn.Sequential(_conv(channels, channels), conv_bn(channels, channels, bias=True))
        self.dilated = _dilated(channels)
        self.gather = nn.Conv2d((1 + len(DILATIONS)) * channels, channels, 3, padding=1)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        both = visible + infrared
        x = self.merge(torch.cat([visible * both, infrared * both], 1))
        x = (x + self.residual(x)).relu()
        return self.gather(torch.cat([x, *(conv(x) for conv in self.dilated)], 1))


class Context(nn.Module):
    """ASPP of the top level, with the level itself added."""

    def __init__(self, channels: int):
        super().__init__()
        self.point = nn.Conv2d(channels, channels, 1)
        self.dilated = _dilated(channels)
        self.gather = nn.Conv2d((1 + len(DILATIONS)) * channels, channels, 1)
        self.smooth = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        views = [self.point(x), *(conv(x) for conv in self.dilated)]
        return self.smooth(self.gather(torch.cat(views, 1)) + x)


class Enhancement(nn.Module):
    """A level and the one above, each times a map of both; the upper one added again."""

    def __init__(self, channels: int):
        super().__init__()
        self.map = nn.Conv2d(2 * channels, channels, 1)
        self.smooth = nn.Sequential(_conv(channels, channels), conv_bn(channels, channels, bias=True))
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, above: Tensor, level: Tensor) -> Tensor:
        weight = self.map(torch.cat([above, level], 1))
        return self.last(self.smooth(above * weight + level * weight) + above)


class Semantic(nn.Module):
    """Logits of the classes from those of levels 5 and 4, at the edges' size and guided by them."""

    def __init__(self, classes: int):
        super().__init__()
        self.merge = nn.Conv2d(2 * classes, classes, 1)
        self.smooth = _conv(classes, classes)
        self.last = nn.Conv2d(classes, classes, 1)
        self.edge = nn.Conv2d(1, classes, 1)

    def forward(self, top: Tensor, below: Tensor, edges: Tensor) -> Tensor:
        top, below = resized(top, edges), resized(below, edges)
        x = self.merge(torch.cat([top, below], 1)) + top + below
        logits = self.last(self.smooth(x) * top)
        return logits + logits * self.edge(edges)


def _dilated(channels: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(channels, channels, 3, dilation=d, padding=d) for d in DILATIONS)


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return conv_bn(in_channels, out_channels, bias=True, act=nn.ReLU())
