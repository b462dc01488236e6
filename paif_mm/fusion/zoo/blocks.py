"""What several networks of the zoo are made of."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..operations import conv_of_concatenation, normalised

VARIANTS = ('original', 'paif')


class PaddedConv(nn.Conv2d):
    """A convolution whose output has the input's size; odd kernels only. Several inputs count as their concatenation.

    Args:
        border (str): what lies beyond the image: 'zeros', 'reflect' (3x3 kernels) or 'replicate'.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        border: str = 'zeros',
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ):
        margin = dilation * (kernel_size // 2)
        padding = margin if border == 'zeros' else 0
        super().__init__(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=bias
        )
        self.border, self.margin = border, margin

    def forward(self, *inputs: Tensor) -> Tensor:
        inputs = [self.extended(x) for x in inputs]
        return super().forward(*inputs) if len(inputs) == 1 else conv_of_concatenation(self, inputs)

    def extended(self, x: Tensor) -> Tensor:
        """(N, C, H, W) as it is convolved: with the border that torch's convolutions don't know."""
        if self.border == 'reflect':
            return reflected(x)
        return F.pad(x, [self.margin] * 4, mode='replicate') if self.border == 'replicate' else x


class NormalisedConv(nn.Module):
    """A convolution and its batch norm, which are one convolution in eval mode; other arguments: :class:`PaddedConv`.

    Several inputs count as their concatenation. The output is fresh: what follows may overwrite it.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, **settings):
        super().__init__()
        self.conv = PaddedConv(in_channels, out_channels, kernel_size, **settings)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, *inputs: Tensor) -> Tensor:
        conv, inputs = self.conv, [self.conv.extended(x) for x in inputs]
        return normalised(self.norm, inputs, conv.weight, conv.padding, conv.dilation, conv.bias)


class Layers(nn.Sequential):
    """Layers in a row, of which the first takes what it is given: several feature maps."""

    def forward(self, *inputs: Tensor) -> Tensor:
        first, *others = self
        x = first(*inputs)
        for layer in others:
            x = layer(x)
        return x


def lrelu(slope: float = 0.2) -> nn.LeakyReLU:
    """LeakyReLU in the place of its input, which is the fresh output of a convolution."""
    return nn.LeakyReLU(slope, inplace=True)


def relu() -> nn.ReLU:
    """As :func:`lrelu`."""
    return nn.ReLU(inplace=True)


def reflected(x: Tensor) -> Tensor:
    """One more line on each side, (N, C, H, W) -> (N, C, H + 2, W + 2), by reflection: the second from each end.

    Where an image has one line only, it is that one. Unlike torch's padding this takes images of any size, is the same
    each time on CUDA, also backwards, and asks for no size, so that a traced network takes others.
    """
    x = torch.cat([x[..., :2, :][..., -1:, :], x, x[..., -2:, :][..., :1, :]], -2)
    return torch.cat([x[..., :2][..., -1:], x, x[..., -2:][..., :1]], -1)


def average(ir: Tensor, vis: Tensor) -> Tensor:
    return (ir + vis) / 2


def l1_weighted(ir: Tensor, vis: Tensor) -> Tensor:
    """The more active features weigh more, pixel by pixel (DenseFuse, Eq. 4-6).

    Activity is the 3x3 mean of the L1 norm over channels, (N, C, H, W) -> (N, 1, H, W).
    """
    activity = [F.avg_pool2d(x.abs().sum(1, keepdim=True), 3, 1, 1, count_include_pad=False) for x in (ir, vis)]
    share = activity[0] / (activity[0] + activity[1]).clamp_min(torch.finfo(ir.dtype).tiny)
    return torch.lerp(vis, ir, share)


#: Name -> rule without parameters that merges two features, (N, C, H, W) each.
RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {'sum': torch.add, 'average': average, 'l1': l1_weighted}
