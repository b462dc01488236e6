"""What is computed over the channels of each pixel by itself; quick in channels-last layout."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad


def makes_graph() -> bool:
    """Whether a call is compiled, traced, or transformed by ``torch.func`` or forward-mode differentiation.

    Then it is written in torch's own operators, out of place: a graph can hold them, and every transform knows them.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def times(fresh: Tensor, grad: Tensor) -> Tensor:
    """fresh * grad, in place of ``fresh``: a backward pass's own tensor, which nobody reads afterwards.

    Beside it where ``grad`` stands for several gradients at once (``vmap``, ``is_grads_batched``), for which it has no
    room.
    """
    batched = makes_graph() or torch._C._functorch.is_legacy_batchedtensor(grad)
    return fresh * grad if batched else fresh.mul_(grad)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution as a matrix product: (N, C, H, W), (D, C), (D,) -> (N, D, H, W).

    On a CPU its backward pass takes half of ``conv2d``'s time. On CUDA torch computes matrix products in full single
    precision by default, convolutions in TF32. The result is a view: it should not be overwritten under autograd. A
    graph gets the convolution, around which compilers keep the layout.
    """
    if makes_graph():
        return F.conv2d(x, weight[:, :, None, None], bias)
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def channel_dot(a: Tensor, b: Tensor) -> Tensor:
    """sum_c a b, (N, 1, H, W)."""
    return (a * b).sum(1, keepdim=True)


def channel_max(x: Tensor) -> Tensor:
    """The largest channel of each pixel, (N, C, H, W) -> (N, 1, H, W); channels that tie share its gradient."""
    return x.amax(1, keepdim=True) if makes_graph() else _Extremum.apply(x, True)


def channel_min(x: Tensor) -> Tensor:
    """The smallest channel, as :func:`channel_max`."""
    return x.amin(1, keepdim=True) if makes_graph() else _Extremum.apply(x, False)


class _Extremum(torch.autograd.Function):
    """``amax`` or ``amin`` with a backward pass of a quarter of torch's time on a CPU, which casts masks twice."""

    @staticmethod
    def forward(ctx, x: Tensor, largest: bool) -> Tensor:
        extremum = x.amax(1, keepdim=True) if largest else x.amin(1, keepdim=True)
        ctx.save_for_backward(x, extremum)
        return extremum

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        with torch.no_grad():
            x, extremum = ctx.saved_tensors
            hits = torch.eq(x, extremum, out=torch.empty_like(x))  # 1 or 0
            count = hits.sum(1, keepdim=True)
        return times(hits, grad / count), None
