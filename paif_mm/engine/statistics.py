"""Batch-norm statistics of several processes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def averaged_statistics(*models: nn.Module) -> Iterator[None]:
    """Inside, running means and variances of all norms are their averages over the processes; afterwards their own.

    Each process gathers its own, unless a norm is synchronised, and mmengine's wrapper does not exchange them: what is
    validated would differ by process, and what is saved would have seen the first one's images alone.
    """
    if get_world_size() == 1:
        yield
        return
    buffers = [
        buffer
        for model in models
        for module in model.modules()
        if isinstance(module, _NormBase)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
    own = [buffer.detach().clone() for buffer in buffers]
    if buffers:
        values = torch.cat([buffer.float().flatten() for buffer in own])
        all_reduce(values, 'mean')
        _put(buffers, values.split([buffer.numel() for buffer in buffers]))
    try:
        yield
    finally:
        _put(buffers, own)


@torch.no_grad()
def _put(buffers: list[torch.Tensor], values) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value.view_as(buffer))
