"""PReLU that overwrites its input, the most frequent pointwise operation of a fusion network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .channels import makes_graph, times

#: An output below zero tells its input, and the slope's gradient with it, up to rounding; not if the slope is tiny.
SMALLEST_SLOPE = 1e-3


class PReLU(nn.PReLU):
    """PReLU with one slope, for an input that nobody reads afterwards: the fresh output of a convolution or a norm.

    On a CPU the result overwrites the input, since memory that was never touched costs more than the arithmetic: a
    quarter of the time. A backward pass keeps the result alone, whose sign is the input's while the slope is positive.
    Elsewhere, for a slope below 1e-3 under autograd, and where only shapes or graphs are computed (fake tensors,
    compilation, tracing, ``torch.func``), it is ``nn.PReLU``. Names in checkpoints are those of ``nn.PReLU``, and so
    are values and first and second derivatives.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not _has_values(x) or x.dtype != self.weight.dtype:
            return super().forward(x)
        slope = self.weight.item()
        if not torch.is_grad_enabled():
            return F.leaky_relu_(x, slope)
        if slope < SMALLEST_SLOPE:
            return super().forward(x)
        return _PReLU.apply(x, self.weight) if self.weight.requires_grad else F.leaky_relu_(x, slope)


class _PReLU(torch.autograd.Function):
    """y = x above 0, slope x elsewhere, in place of x; differentiable twice. ``slope`` > 0 holds one value."""

    @staticmethod
    def forward(ctx, x: Tensor, slope: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        y = F.leaky_relu_(x, slope.item())
        ctx.save_for_backward(y, slope)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        y, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative also asks for the slope's part in the first
            grad_x = torch.where(y > 0, grad, slope * grad)
        else:
            grad_x = torch.ops.aten.leaky_relu_backward(grad, y, slope.item(), True)
        return grad_x, (times(y.clamp(max=0), grad).sum() / slope).reshape(slope.shape)


def _has_values(x: Tensor) -> bool:
    """Whether x is an ordinary tensor on a CPU, whose values may be looked at without waiting for a device."""
    return type(x) is Tensor and x.is_cpu and not makes_graph()
