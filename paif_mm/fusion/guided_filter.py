"""Feature decomposition by guided filters (He et al. 2013), the fusion network's cost centre.

PAIF (ACM MM 2023, Sec. 2.2) splits features F into low and high frequencies, ``HF_i = F - LF_i``, where LF_i is F
smoothed by a guided filter with the residual map ``g = max_c F - min_c F`` (Eq. 3) as guide and with one of two
strengths eps_i; a 1x1 convolution then mixes [LF_1, LF_2, HF_1, HF_2]. With box means written m(.), the textbook is

    A_i = (m(g F) - m(g) m(F)) / (m(g g) - m(g)^2 + eps_i),   b_i = m(F) - A_i m(g),   LF_i = m(A_i) g + m(b_i).

Box means and the 1x1 convolution are both linear, and they commute. Splitting the convolution's weight into its four
blocks [L_1, L_2, H_1, H_2] and writing W_i = L_i - H_i, the mixed result is

    m(P) g + m(Q) + (H_1 + H_2) F + bias   with   P = W_1 A_1 + W_2 A_2,   Q = (W_1 + W_2) m(F) - m(g) P,

so that neither LF_i nor HF_i nor their concatenation exists, the first means serve both strengths, and the second
means run over 2C channels instead of 4C. Box means are sums over the window times one map 1/n of the window's
size (smaller at the border), which is applied to scalar maps wherever possible. Sums over 81 values are also more
accurate than differences of cumulative sums, whose rounding error grows with the image.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Whether box sums on a CPU are depthwise convolutions; switched off to count FLOPs.
SUMS_AS_CONVOLUTIONS = torch.backends.mkldnn.is_available()


class GuidedDecomposition(nn.Module):
    """Decompose features with guided filters of two strengths and mix the parts by a 1x1 convolution.

    Args:
        channels (int): channels C of input and output.
        radius (int): windows have ``2 * radius + 1`` pixels a side and are cut at the image border.
        eps (Sequence[float]): the two regularisations, in squared units of the features.
    """

    def __init__(self, channels: int, radius: int = 4, eps: Sequence[float] = (1e-3, 1e-4)):
        super().__init__()
        self.radius = radius
        self.eps = tuple(eps)
        self.project = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, C, H, W) to mixed frequencies (N, C, H, W); at least float32 inside, also in autocast."""
        with torch.autocast(x.device.type, enabled=False):
            precise = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
            weight, bias = self.project.weight.to(precise.dtype), self.project.bias.to(precise.dtype)
            return guided_projection(precise, weight, bias, self.eps, self.radius).to(x.dtype)


def guided_projection(x: Tensor, weight: Tensor, bias: Tensor, eps: Sequence[float], radius: int) -> Tensor:
    """The 1x1 convolution of ``[LF_1, LF_2, HF_1, HF_2]``; see the module's docstring for the notation.

    Args:
        x (Tensor): features F, (N, C, H, W).
        weight (Tensor): the convolution's weight, (C, 4C, 1, 1).
        bias (Tensor): its bias, (C,).
        eps (Sequence[float]): eps_1 and eps_2.
        radius (int): the windows' radius in pixels.
    """
    low1, low2, high1, high2 = weight.chunk(4, dim=1)
    w1, w2 = low1 - high1, low2 - high2
    guide = residual_guide(x)
    share = 1 / box_count(x, radius)  # (H, W)

    # Both in one call: a depthwise convolution of one channel is an ordinary one, of twice the time.
    guide_mean, square_mean = (box_sum(torch.cat([guide, guide * guide], 1), radius) * share).split(1, dim=1)
    guide_variance = square_mean - guide_mean * guide_mean
    gain1, gain2 = (share / (guide_variance + e) for e in eps)  # (N, 1, H, W) each

    x_sum = box_sum(x, radius)
    covariance_sum = box_sum(guide * x, radius).addcmul_(guide_mean, x_sum, value=-1)
    p = F.conv2d(covariance_sum, w1).mul_(gain1).addcmul_(F.conv2d(covariance_sum, w2), gain2)
    del covariance_sum
    q = F.conv2d(x_sum, w1 + w2).mul_(share).addcmul_(guide_mean, p, value=-1)
    del x_sum

    mixed = F.conv2d(x, high1 + high2, bias)
    return mixed.addcmul_(box_sum(p, radius), guide * share).addcmul_(box_sum(q, radius), share)


def residual_guide(x: Tensor) -> Tensor:
    """The residual map max_c F - min_c F of Eq. 3, (N, C, H, W) -> (N, 1, H, W)."""
    return x.amax(1, keepdim=True) - x.amin(1, keepdim=True)


def box_sum(x: Tensor, radius: int) -> Tensor:
    """Sums over windows of ``2 * radius + 1`` pixels a side, zeros outside; (N, C, H, W) -> (N, C, H, W)."""
    return _BoxSum.apply(x, radius)


class _BoxSum(torch.autograd.Function):
    """A pixel is in another's window if that one is in its own: the gradient is the same sum, and needs no input."""

    @staticmethod
    def forward(ctx, x: Tensor, radius: int) -> Tensor:
        ctx.radius = radius
        size = 2 * radius + 1
        if x.device.type == 'cpu' and x.dtype == torch.float32 and SUMS_AS_CONVOLUTIONS:
            # Measured: takes a third of pooling's time, and no longer than a column and a row of ones after each other.
            ones = x.new_ones(x.shape[1], 1, size, size)
            return F.conv2d(x, ones, padding=radius, groups=x.shape[1])
        # Elsewhere a convolution may be run in TF32, which would spoil variances, or has no fast kernel: columns, then
        # rows, read 18 values for a sum instead of 81.
        x = F.avg_pool2d(x, (size, 1), stride=1, padding=(radius, 0), divisor_override=1)
        return F.avg_pool2d(x, (1, size), stride=1, padding=(0, radius), divisor_override=1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return box_sum(grad, ctx.radius), None


def box_count(x: Tensor, radius: int) -> Tensor:
    """The number of pixels inside each window, (H, W) for x of (N, C, H, W)."""
    height, width = (_window_lengths(size, radius, x) for size in x.shape[-2:])
    return height[:, None] * width


def _window_lengths(size: int, radius: int, like: Tensor) -> Tensor:
    index = torch.arange(size, device=like.device)
    return ((index + radius).clamp(max=size - 1) - (index - radius).clamp(min=0) + 1).to(like.dtype)
