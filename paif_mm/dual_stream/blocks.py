"""What the networks of two streams share."""

import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int] = 3,
    dilation: int = 1,
    bias: bool = False,
    act: nn.Module | None = None,
) -> nn.Sequential:
    """A convolution whose output has the input's size, batch norm, and an activation; odd kernels only."""
    sides = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    padding = tuple(dilation * (side // 2) for side in sides)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([] if act is None else [act]))


def resized(x: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    """``x`` at the height and width of ``like``, bilinearly."""
    return F.interpolate(x, size=like.shape[-2:], mode='bilinear', align_corners=align_corners)


def doubled(x: Tensor, align_corners: bool = False) -> Tensor:
    """``x`` at twice its height and width, bilinearly."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=align_corners)
