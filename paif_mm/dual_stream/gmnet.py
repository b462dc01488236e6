"""GMNet (Zhou et al., TIP 2021): graded features of two streams, learned from several labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from paif_mm.fusion.channels import channel_max
from paif_mm.registry import MODELS

from .blocks import conv_bn, doubled, resized
from .segmentor import CROSS_ENTROPY, DualStreamSegmentor

REDUCTION = 16  # of the shallow levels' attention of channels
SHALLOW = 2  # levels


@MODELS.register_module()
class GMNet(DualStreamSegmentor):
    """Two ResNets, whose deep levels are fused to say what things are, and whose shallow ones where they end.

    Infrared's own ResNet has one input channel. The loss is cross-entropy of the classes, and of side outputs: the
    foreground, from level 2, and the boundaries, from level 1, both modulated by the decoder of the classes.

    Args:
        backbone (dict): settings of mmseg's or mmpretrain's ResNet over the default, ``dict(depth=50)``.
        channels (int): width of all fused levels, in sixteens. Default: 64.
        variant (str): ``'published'``, or ``'paif'``: what PAIF's release made of it, level 3 alone, one output.
        decode_head (dict): settings of its :class:`PixelHead`: ``num_classes``, and ``loss_decode`` for other losses.
        side_losses (dict): losses of ``foreground`` and ``boundary`` in place of the defaults.
        kwargs: ``data_preprocessor``, ``train_cfg``, ``test_cfg`` and ``init_cfg`` of mmseg's ``EncoderDecoder``.

    Raises:
        ValueError: there is no such variant or side output, or ``channels`` are not in sixteens.
    """

    shared = False
    depths = {'published': 50, 'paif': 50}
    levels = {'published': 5, 'paif': 3}
    sides = {'foreground': ('foreground', CROSS_ENTROPY), 'boundary': ('boundaries', CROSS_ENTROPY)}

    def __init__(
        self,
        backbone: dict | None = None,
        channels: int = 64,
        variant: str = 'published',
        decode_head: dict | None = None,
        side_losses: dict | None = None,
        **kwargs,
    ):
        if channels < REDUCTION or channels % REDUCTION:
            raise ValueError(f'channels of GMNet must be a multiple of {REDUCTION}, not {channels}')
        head = {'type': 'paif_mm.PixelHead', 'channels': channels, 'bias': False, 'align_corners': True}
        head['loss_decode'] = CROSS_ENTROPY
        super().__init__(variant, backbone, {**head, **(decode_head or {})}, side_losses, **kwargs)
        self.neck = GMNetNeck(self.backbone.channels, channels, sides=variant == 'published')


class GMNetNeck(nn.Module):
    """Levels of (visible, infrared) to decoded features at half the size of the images, and logits of side outputs.

    Args:
        in_channels: of each level, 3 or 5 of them.
        channels (int): width of all fused levels.
        sides (bool): whether there are side outputs.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, sides: bool):
        super().__init__()
        deep = in_channels[SHALLOW:]
        self.fuse = nn.ModuleList(DenseFusion(width, channels) for width in deep)
        self.narrow = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in deep)
        self.context = nn.ModuleList(nn.ModuleList([Context(channels), Context(channels)]) for _ in deep)
        self.decode = nn.ModuleList(Decoder(channels) for _ in range(len(deep) + 1))  # from level 2 on
        if sides:
            self.place = nn.ModuleList(Place(width, channels) for width in in_channels[:SHALLOW])
            self.modulate, self.fill, self.bound = (Decoder(channels) for _ in range(3))
            self.foreground = nn.Conv2d(channels, 2, 1, bias=False)
            self.boundary = nn.Conv2d(channels, 2, 1, bias=False)

    def forward(self, levels: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        shallow, deep = levels[:SHALLOW], levels[SHALLOW:]
        fused = [fuse(*both) for fuse, both in zip(self.fuse, deep, strict=True)]
        views = [
            second(first(x) + narrow(visible))
            for x, (first, second), narrow, (visible, _) in zip(fused, self.context, self.narrow, deep, strict=True)
        ]
        x = views[-1]
        for decode, below in zip(reversed(self.decode[2:]), reversed(views[:-1]), strict=True):
            x = resized(decode(x), below, align_corners=True) + below
        quarter = resized(self.decode[1](x), shallow[1][0], align_corners=True)
        half = resized(self.decode[0](quarter), shallow[0][0], align_corners=True)
        return half, quarter, fused[0], *shallow

    def sides(
        self, half: Tensor, quarter: Tensor, fused: Tensor, *shallow: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, ...]:
        first, second = (place(*both) for place, both in zip(self.place, shallow, strict=True))
        second = second + resized(fused, second, align_corners=True)
        filled = self.fill(doubled(second * self.modulate(quarter), align_corners=True))
        return self.foreground(filled), self.boundary(self.bound(first * half))


class DenseFusion(nn.Module):
    """Sum and product of both, through a residual bottleneck of densely linked convolutions, to fewer channels."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.merge = _conv(in_channels, in_channels)
        self.down = nn.Conv2d(in_channels, channels, 1)
        self.dense = nn.ModuleList(_conv(count * channels, channels) for count in range(1, 5))
        self.up = _conv(in_channels + channels, in_channels)
        self.narrow = _conv(in_channels, channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return self.fused(visible + infrared, visible * infrared)

    def fused(self, both: Tensor, product: Tensor) -> Tensor:
        x = self.merge(both + product)
        return self.narrow(self.up(torch.cat([x, _densely(self.dense, self.down(x))], 1)) + x)


class Context(nn.Module):
    """CMC: densely linked convolutions of growing, dilated windows, beside the features themselves."""

    def __init__(self, channels: int):
        super().__init__()
        width = channels // 4
        self.down = nn.Conv2d(channels, width, 1)
        self.dense = nn.ModuleList(
            nn.Sequential(
                conv_bn(count * width, width, (1, side)),
                conv_bn(width, width, (side, 1)),
                conv_bn(width, width, 3, dilation=side),
            )
            for count, side in ((1, 3), (2, 5), (3, 7))
        )
        self.merge = _conv(channels + width, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(torch.cat([x, _densely(self.dense, self.down(x))], 1))


class Place(nn.Module):
    """LFE: visible features, where infrared's largest channel is strong, with an attention of channels."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.strength = nn.Conv2d(1, 1, 7, padding=3, bias=False)
        self.narrow = nn.Conv2d(in_channels, channels, 1)
        self.attend = nn.Sequential(
            nn.AdaptiveMaxPool2d(1),
            nn.Conv2d(channels, channels // REDUCTION, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // REDUCTION, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        strength = self.strength(channel_max(infrared))
        x = self.narrow(visible * (strength + visible).sigmoid() + strength)
        return x * self.attend(x)


class Decoder(nn.Sequential):
    """Three convolutions, each with two batch norms, beside a shortcut."""

    def __init__(self, channels: int):
        norm = [nn.BatchNorm2d(channels) for _ in range(3)]
        super().__init__(*(nn.Sequential(conv_bn(channels, channels), norm[i], nn.ReLU()) for i in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


def _densely(layers: nn.ModuleList, x: Tensor) -> Tensor:
    """The last of layers each of which sees the outputs of those before it, and ``x``."""
    found = []
    for layer in layers:
        found.append(layer(torch.cat([*found, x], 1)))
    return found[-1]


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return conv_bn(in_channels, out_channels, act=nn.ReLU())
