"""Batch norm for a forward pass that must leave no trace."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def untracked_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms normalise as their mode says (by the batch in training) without changing running statistics.

    They go through the same operations as otherwise, so that a checkpointed forward pass can be repeated inside; the
    batches that they count are those of a copy, as synchronised batch norms insist on counting.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # running <- 1 * running + 0 * batch
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
