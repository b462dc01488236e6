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

from .channels import channel_dot, channel_max, channel_min, makes_graph, pointwise

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
    low1, low2, high1, high2 = weight.flatten(1).chunk(4, dim=1)
    w1, w2 = low1 - high1, low2 - high2
    guide = residual_guide(x)
    share = 1 / box_count(x, radius)  # (H, W)

    # Both in one call: a depthwise convolution of one channel is an ordinary one, of twice the time.
    guide_mean, square_mean = (box_sum(torch.cat([guide, guide * guide], 1), radius) * share).split(1, dim=1)
    guide_variance = square_mean - guide_mean * guide_mean
    gain1, gain2 = (share / (guide_variance + e) for e in eps)  # (N, 1, H, W) each

    inputs = x, guide, guide_mean, gain1, gain2, w1, w2, w1 + w2, high1 + high2, bias, share, radius
    if makes_graph() or not torch.is_grad_enabled():  # a compiler derives and fuses on its own
        return mix(*inputs)
    return _Mix.apply(*inputs)


def mix(
    x: Tensor,
    guide: Tensor,
    guide_mean: Tensor,
    gain1: Tensor,
    gain2: Tensor,
    w1: Tensor,
    w2: Tensor,
    w: Tensor,
    high: Tensor,
    bias: Tensor,
    share: Tensor,
    radius: int,
    kept: list[Tensor] | None = None,
) -> Tensor:
    """m(P) g + m(Q) + H F + bias, (N, C, H, W).

    Features are (N, C, H, W), maps (N, 1, H, W), weights (C, C); ``gain_i`` is 1 / (n (variance + eps_i)), ``share``
    1 / n. What the backward pass reads is added to ``kept``: the sums of F, n times the covariances, P and its sums.
    """
    x_sum = box_sum(x, radius)
    covariance = box_sum(guide * x, radius).addcmul_(guide_mean, x_sum, value=-1)
    p = pointwise(covariance, w1).mul_(gain1).addcmul_(pointwise(covariance, w2), gain2)
    q = pointwise(x_sum, w).mul_(share).addcmul_(guide_mean, p, value=-1)
    if kept is not None:
        kept += x_sum, covariance, p
    del x_sum, covariance
    mixed = pointwise(x, high, bias).addcmul_(box_sum(q, radius), share)
    del q
    p_sum = box_sum(p, radius)
    if kept is not None:
        kept.append(p_sum)
    return mixed.addcmul_(p_sum, guide * share)


class _Mix(torch.autograd.Function):
    """:func:`mix` with a backward pass by hand, which needs fewer large tensors, in number and kept."""

    @staticmethod
    def forward(ctx, *inputs):
        kept = []
        mixed = mix(*inputs, kept)
        *tensors, ctx.radius = inputs
        ctx.save_for_backward(*tensors, *kept)
        return mixed.data  # no view, which no operation behind it could overwrite

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            if torch.is_grad_enabled():  # the derivative is to be differentiated again
                # Views, since the derivatives are partial: the guide is a function of x, and w of w1 and w2.
                inputs = [tensor.view_as(tensor) for tensor in ctx.saved_tensors[:11]]
                wanted = [x for x, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
                found = iter(torch.autograd.grad(mix(*inputs, ctx.radius), wanted, grad, create_graph=True))
                return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
            return *_mix_gradients(grad, *ctx.saved_tensors, ctx.radius, any(ctx.needs_input_grad[5:10])), None, None


def _mix_gradients(
    grad, x, guide, guide_mean, gain1, gain2, w1, w2, w, high, bias, share, x_sum, covariance, p, p_sum, radius, weights
) -> tuple[Tensor | None, ...]:
    """Gradients of :func:`mix` in the order of its inputs, those of weights only if asked for.

    A pixel's gain and a 1x1 convolution commute: sum_c dP (W_i C) = sum_c C (W_i^T dP), so that no W_i C is kept.
    """
    by_w1 = by_w2 = by_w = by_high = by_bias = None

    by_q = box_sum(grad * share, radius)
    by_p = box_sum(grad * (guide * share), radius).addcmul_(guide_mean, by_q, value=-1)
    by_guide = channel_dot(grad, p_sum).mul_(share)
    by_mean = channel_dot(by_q, p).neg_()
    by_q.mul_(share)
    by_x_sum = pointwise(by_q, w.t())

    part1, part2 = pointwise(by_p, w1.t()), pointwise(by_p, w2.t())
    by_gain1, by_gain2 = channel_dot(part1, covariance), channel_dot(part2, covariance)
    by_covariance = part1.mul_(gain1).addcmul_(part2, gain2)
    if weights:
        by_w, by_high, by_bias = _outer(by_q, x_sum), _outer(grad, x), grad.sum((0, 2, 3))
        by_w1, by_w2 = (_outer(by_p * gain, covariance) for gain in (gain1, gain2))

    by_mean -= channel_dot(by_covariance, x_sum)
    by_x_sum.addcmul_(guide_mean, by_covariance, value=-1)
    by_product = box_sum(by_covariance, radius)  # of guide and x
    by_guide += channel_dot(by_product, x)
    by_x = pointwise(grad, high.t()).add_(box_sum(by_x_sum, radius)).addcmul_(by_product, guide)
    return by_x, by_guide, by_mean, by_gain1, by_gain2, by_w1, by_w2, by_w, by_high, by_bias


def _outer(a: Tensor, b: Tensor) -> Tensor:
    """sum over all pixels of a b^T, (C, C)."""
    a, b = (x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in (a, b))
    return a.t() @ b


def residual_guide(x: Tensor) -> Tensor:
    """The residual map max_c F - min_c F of Eq. 3, (N, C, H, W) -> (N, 1, H, W)."""
    return channel_max(x) - channel_min(x)


def box_sum(x: Tensor, radius: int) -> Tensor:
    """Sums over windows of ``2 * radius + 1`` pixels a side, zeros outside; (N, C, H, W) -> (N, C, H, W)."""
    return _box_sum(x, radius) if makes_graph() else _BoxSum.apply(x, radius)


def _box_sum(x: Tensor, radius: int) -> Tensor:
    size = 2 * radius + 1
    if x.device.type == 'cpu' and x.dtype == torch.float32 and SUMS_AS_CONVOLUTIONS:
        # Measured: takes a third of pooling's time, and no longer than a column and a row of ones after each other.
        ones = x.new_ones(x.shape[1], 1, size, size)
        return F.conv2d(x, ones, padding=radius, groups=x.shape[1])
    # Elsewhere a convolution may be run in TF32, which would spoil variances, or has no fast kernel: columns, then
    # rows, read 18 values for a sum instead of 81.
    x = F.avg_pool2d(x, (size, 1), stride=1, padding=(radius, 0), divisor_override=1)
    return F.avg_pool2d(x, (1, size), stride=1, padding=(0, radius), divisor_override=1)


class _BoxSum(torch.autograd.Function):
    """A pixel is in another's window if that one is in its own: the gradient is the same sum, and needs no input."""

    @staticmethod
    def forward(ctx, x: Tensor, radius: int) -> Tensor:
        ctx.radius = radius
        return _box_sum(x, radius)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        with torch.autocast(grad.device.type, enabled=False):
            return box_sum(grad, ctx.radius), None


def box_count(x: Tensor, radius: int) -> Tensor:
    """The number of pixels inside each window, (H, W) for x of (N, C, H, W)."""
    height, width = (_window_lengths(size, radius, x) for size in x.shape[-2:])
    return height[:, None] * width


def _window_lengths(size: int, radius: int, like: Tensor) -> Tensor:
    index = torch.arange(size, device=like.device)
    return ((index + radius).clamp(max=size - 1) - (index - radius).clamp(min=0) + 1).to(like.dtype)
