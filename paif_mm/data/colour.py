"""Colour: the one home of the luminance/chrominance conversion (ITU-R BT.601, full range).

All tensors are float in [0, 1]; the channel dimension is the third from the end.
"""

import torch
from torch import Tensor

VISIBLE = slice(0, 3)
INFRARED = slice(3, 4)


def split_pair(pair: Tensor) -> tuple[Tensor, Tensor]:
    """Split a pair (..., 4, H, W) B,G,R,IR into infrared (..., 1, H, W) and visible BGR (..., 3, H, W)."""
    return pair[..., INFRARED, :, :], pair[..., VISIBLE, :, :]


def bgr_to_luma(bgr: Tensor) -> Tensor:
    """Luminance Y = .299 R + .587 G + .114 B, (..., 3, H, W) -> (..., 1, H, W)."""
    blue, green, red = bgr.split(1, dim=-3)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def replace_luma(bgr: Tensor, luma: Tensor) -> Tensor:
    """Give the visible image another luminance and keep its chrominance.

    With Cr = .713 (R - Y) + .5 and Cb = .564 (B - Y) + .5, the inverse is R = Y' + 1.403 (Cr - .5),
    B = Y' + 1.773 (Cb - .5), G = Y' - .714 (Cr - .5) - .344 (Cb - .5).

    Args:
        bgr (Tensor): visible image (..., 3, H, W), B,G,R in [0, 1].
        luma (Tensor): new luminance Y' (..., 1, H, W) in [0, 1].

    Returns:
        Tensor: (..., 3, H, W), B,G,R clamped to [0, 1].
    """
    old = bgr_to_luma(bgr)
    cr = 0.713 * (bgr[..., 2:3, :, :] - old)
    cb = 0.564 * (bgr[..., 0:1, :, :] - old)
    red = luma + 1.403 * cr
    green = luma - 0.714 * cr - 0.344 * cb
    blue = luma + 1.773 * cb
    return torch.cat([blue, green, red], dim=-3).clamp(0, 1)
