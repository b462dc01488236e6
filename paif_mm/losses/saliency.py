"""Visual saliency maps by histogram contrast (Ma et al., Infrared Physics & Technology 82, 2017)."""

import torch
from torch import Tensor

LEVELS = 256


@torch.no_grad()
def saliency(luma: Tensor) -> Tensor:
    """How much each pixel's intensity differs from all others: S(p) = sum_q |I_p - I_q|, scaled to [0, 1] per image.

    Computed exactly for images of 256 levels (others are rounded): S depends on the pixel's level alone, so that the
    sum runs over a histogram instead of over the pixels.

    Args:
        luma (Tensor): (N, 1, H, W) in [0, 1]; values outside are clamped.

    Returns:
        Tensor: (N, 1, H, W) in [0, 1], without gradient. Where all pixels of an image are equally salient, as in one
        of a single level, it is 0.

    Raises:
        ValueError: the shape is not (N, 1, H, W).
    """
    if luma.dim() != 4 or luma.size(1) != 1:
        raise ValueError(f'saliency is that of a luminance (N, 1, H, W), not of {tuple(luma.shape)}')
    n, _, h, w = luma.shape
    levels = (luma.reshape(n, h * w).clamp(0, 1) * (LEVELS - 1)).round().long()
    histogram = torch.zeros(n, LEVELS, dtype=torch.float64, device=luma.device)
    histogram.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float64))
    values = torch.arange(LEVELS, dtype=torch.float64, device=luma.device)
    contrast = histogram @ (values[:, None] - values).abs()  # (N, 256): S of each level
    contrast = contrast.gather(1, levels)
    low, high = contrast.amin(1, keepdim=True), contrast.amax(1, keepdim=True)
    return ((contrast - low) / (high - low).clamp_min(1)).to(luma.dtype).reshape(n, 1, h, w)


def saliency_weights(ir: Tensor, vis: Tensor) -> tuple[Tensor, Tensor]:
    """M_x = (1 + S_x - S_y) / 2 and M_y = 1 - M_x (Ma et al. 2017, base layers): the salient source weighs more.

    The PAIF paper's Eq. 6 calls M_x and M_y 'salient maps' after Ma et al. and leaves their normalisation open, as do
    its authors, whose release takes them precomputed. Weights that add up to one keep M_x x + M_y y an image in the
    range of its sources.

    Args:
        ir, vis (Tensor): clean luminances, (N, 1, H, W) in [0, 1].

    Returns:
        tuple: M_x, M_y, (N, 1, H, W) in [0, 1] each.
    """
    weight = (1 + saliency(ir) - saliency(vis)) / 2
    return weight, 1 - weight
