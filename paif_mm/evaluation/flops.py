"""Floating-point operations of what is computed, whichever kernels compute it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from paif_mm.fusion import guided_filter


@contextmanager
def count_flops() -> Iterator[FlopCounterMode]:
    """Count the convolutions and matrix products that run inside, two operations per multiply-add.

    torch counts the operators that it sees, and which these are depends on the device and on whether gradients are
    wanted: fused attention is one operator, at times of an unknown cost. Here attention is computed as the matrix
    products that it consists of. Box sums of guided filters, which a CPU computes as convolutions with ones, are
    pooled as they are elsewhere, and thereby not counted: they need no multiplication. So one network has one count.
    """
    fast_path, as_convolutions = torch.backends.mha.get_fastpath_enabled(), guided_filter.SUMS_AS_CONVOLUTIONS
    torch.backends.mha.set_fastpath_enabled(False)
    guided_filter.SUMS_AS_CONVOLUTIONS = False
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        guided_filter.SUMS_AS_CONVOLUTIONS = as_convolutions
