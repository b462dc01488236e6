"""EGFNet's edge prior, from the pair itself."""

import torch
import torch.nn.functional as F
from torch import Tensor

from paif_mm.data.colour import bgr_to_luma, split_pair


def edge_map(pairs: Tensor) -> Tensor:
    """Edges of both modalities, added: |S_x|/2 + |S_y|/2 of each, S the 3x3 Sobel filters, each absolute at most 255.

    As EGFNet's files are made (by OpenCV, with grey visible images), but differentiable, without rounding, and without
    the overflow of sums above 255.

    Args:
        pairs: (N, 4, H, W) B,G,R,IR in [0, 255].

    Returns:
        (N, 1, H, W) in [0, 510].
    """
    infrared, visible = split_pair(pairs)
    grey = torch.cat([bgr_to_luma(visible), infrared], 1)  # (N, 2, H, W)
    padded = F.pad(grey, (1, 1, 1, 1), mode='reflect')
    across = padded[..., 2:] - padded[..., :-2]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return (across.abs().clamp(max=255) + down.abs().clamp(max=255)).sum(1, keepdim=True) / 2
