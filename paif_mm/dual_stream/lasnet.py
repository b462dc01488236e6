"""LASNet (Li et al., TCSVT 2022): location, activation and sharpening of two streams."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from paif_mm.fusion.channels import channel_max
from paif_mm.registry import MODELS

from .blocks import conv_bn, doubled, resized
from .segmentor import CROSS_ENTROPY, DualStreamSegmentor


@MODELS.register_module()
class LASNet(DualStreamSegmentor):
    """One ResNet for both modalities, whose features are fused by another module at each height.

    They are narrowed by shared convolutions; fused by correlation with their product at the top (level 5), by spatial
    and channel attention (levels 4 to 2) and by dilated convolutions (level 1); and decoded from the top down. The loss
    is cross-entropy and the Lovasz surrogate of the classes, and cross-entropy of side outputs: the classes at half the
    size, the foreground (by half), and the boundaries of the classes.

    Args:
        backbone (dict): settings of mmseg's or mmpretrain's ResNet over the default, e.g. ``dict(depth=18)``.
            Default: ResNet-152, and ResNet-50 of ``'paif'``.
        channels (Sequence[int]): widths of the five levels, from the stem on; the first in fours.
            Default: 64, 128, 256, 256, 512.
        variant (str): ``'published'``, or ``'paif'``: what PAIF's release made of it, levels 1 to 3 and one output.
        decode_head (dict): settings of its :class:`PixelHead`: ``num_classes``, and ``loss_decode`` for other losses.
        side_losses (dict): losses of ``semantic``, ``saliency`` and ``boundary`` in place of the defaults.
        kwargs: ``data_preprocessor``, ``train_cfg``, ``test_cfg`` and ``init_cfg`` of mmseg's ``EncoderDecoder``.

    Raises:
        ValueError: there is no such variant or side output, or ``channels`` are not five, the first in fours.
    """

    depths = {'published': 152, 'paif': 50}
    levels = {'published': 5, 'paif': 3}
    sides = {
        'semantic': ('classes', CROSS_ENTROPY),
        'saliency': ('foreground', {**CROSS_ENTROPY, 'loss_weight': 0.5}),
        'boundary': ('boundaries', CROSS_ENTROPY),
    }

    def __init__(
        self,
        backbone: dict | None = None,
        channels: Sequence[int] = (64, 128, 256, 256, 512),
        variant: str = 'published',
        decode_head: dict | None = None,
        side_losses: dict | None = None,
        **kwargs,
    ):
        if len(channels) != 5 or channels[0] % 4:
            raise ValueError(f'channels of LASNet must be five, the first a multiple of 4, not {list(channels)}')
        losses = [CROSS_ENTROPY, {'type': 'LovaszLoss', 'reduction': 'none'}]
        head = {'type': 'paif_mm.PixelHead', 'channels': channels[0], 'kernel_size': 3, 'loss_decode': losses}
        super().__init__(variant, backbone, {**head, **(decode_head or {})}, side_losses, **kwargs)
        classes = self.out_channels if variant == 'published' else 0
        self.neck = LASNetNeck(self.backbone.channels, channels[: self.levels[variant]], classes)


class LASNetNeck(nn.Module):
    """Levels of (visible, infrared) to decoded features at the size of the images, and logits of side outputs.

    Args:
        in_channels, channels: of each level, before and after it is narrowed.
        classes (int): of the semantic side output; 0: there are no side outputs.
    """

    def __init__(self, in_channels: Sequence[int], channels: Sequence[int], classes: int):
        super().__init__()
        first, top = channels[0], channels[-1]
        self.narrow = nn.ModuleList(map(_conv, in_channels, channels))
        kinds = [Sharpening, Activation, Activation, Activation, Location][: len(channels)]
        self.fuse = nn.ModuleList(kind(width) for kind, width in zip(kinds, channels, strict=True))
        self.decode = nn.ModuleList(_decoder(above, below) for below, above in pairwise(channels))
        self.last = nn.ModuleList([_decoder(first, first), _conv(first, first)])
        if classes:
            self.semantic = nn.Conv2d(first, classes, 3, padding=1)
            self.saliency = nn.Conv2d(top, 2, 3, padding=1)
            self.boundary = nn.Conv2d(first, 2, 3, padding=1)

    def forward(self, levels: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        fused = [
            fuse(narrow(visible), narrow(infrared))
            for fuse, narrow, (visible, infrared) in zip(self.fuse, self.narrow, levels, strict=True)
        ]
        x = fused[-1]
        for decode, below in zip(reversed(self.decode), reversed(fused[:-1]), strict=True):
            decoded = resized(decode(x), below, align_corners=True)
            x = decoded + below
        decode, sharpen = self.last
        return sharpen(doubled(decode(x), align_corners=True)), decoded, fused[-1], fused[0]

    def sides(self, _: Tensor, decoded: Tensor, top: Tensor, first: Tensor) -> tuple[Tensor, ...]:
        return self.semantic(decoded), self.saliency(top), self.boundary(first)


class Location(nn.Module):
    """CLM: each modality's features, gathered by their correlation with the product of both."""

    def __init__(self, channels: int):
        super().__init__()
        self.visible, self.infrared = Correlation(channels), Correlation(channels)
        self.sum, self.product = _conv(channels, channels), _conv(channels, channels)
        self.merge = _conv(2 * channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.gathered(visible, visible * infrared, infrared)

    def gathered(self, visible: Tensor, exemplar: Tensor, infrared: Tensor) -> Tensor:
        visible, infrared = self.visible(exemplar, visible), self.infrared(exemplar, infrared)
        return self.merge(torch.cat([self.sum(visible + infrared), self.product(visible * infrared)], 1))


class Correlation(nn.Module):
    """For each place of an exemplar e, the mean of q over all places p, weighed by softmax_p (W e . q_p)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Linear(channels, channels, bias=False)
        self.smooth = _conv(channels, channels)

    def forward(self, exemplar: Tensor, query: Tensor) -> Tensor:
        values = query.flatten(2)  # (N, C, P)
        affinity = self.weight(exemplar.flatten(2).mT) @ values  # (N, P of e, P of q)
        return self.smooth((values @ affinity.softmax(-1).mT).view_as(query))


class Activation(nn.Module):
    """CAM: the sum of both, where their product is strong, and DANet's attention of channels (Fu et al., CVPR 2019)."""

    def __init__(self, channels: int):
        super().__init__()
        self.sum = _conv(channels, channels)
        self.place = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        x = self.sum(visible + infrared) * self.place(channel_max(visible * infrared)).sigmoid()
        values = x.flatten(2)
        energy = values @ values.mT  # (N, C, C)
        attention = (energy.amax(-1, keepdim=True) - energy).softmax(-1)
        return self.gamma * (attention @ values).view_as(x) + x


class Sharpening(nn.Module):
    """ESM: sum and product, smoothed, through four dilated convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.product, self.sum = _conv(channels, channels), _conv(channels, channels)
        self.dilated = nn.ModuleList(_conv(channels, channels // 4, dilation) for dilation in (1, 3, 5, 7))
        self.merge = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        x = self.sum(visible + infrared) + self.product(visible * infrared)
        return self.merge(torch.cat([conv(x) for conv in self.dilated], 1))


def _decoder(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout2d(0.1), _conv(in_channels, in_channels, 3), _conv(in_channels, out_channels))


def _conv(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Sequential:
    return conv_bn(in_channels, out_channels, dilation=dilation, act=nn.LeakyReLU(0.1))
