"""Forward passes that must leave no trace in batch-norm statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def untracked_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norms normalise as their mode says (by the batch in training) without changing running statistics.

    Inside, every buffer is a copy, which is thrown away: that holds for any norm (plain, synchronised, mmcv's, instance
    norm with statistics) and whatever else a module counts, and also where a batch is not finite. The operations are
    those of any other forward pass, so that a checkpointed one can be repeated inside.
    """
    owners = [m for m in module.modules() if m._buffers]
    kept = [dict(owner._buffers) for owner in owners]
    for owner, buffers in zip(owners, kept, strict=True):
        owner._buffers.update({name: buffer.clone() for name, buffer in buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for owner, buffers in zip(owners, kept, strict=True):
            owner._buffers.update(buffers)
