"""Batch-norm statistics of several processes."""

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@torch.no_grad()
def average_statistics(model: nn.Module) -> None:
    """Replace the running means and variances of all norms by their averages over the processes.

    Each process gathers its own, unless a norm is synchronised, and mmengine's wrapper does not exchange them: what is
    validated would differ by process, and what is saved would have seen the first one's images alone.
    """
    if get_world_size() == 1:
        return
    buffers = [
        buffer
        for module in model.modules()
        if isinstance(module, _NormBase)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
    if not buffers:
        return
    values = torch.cat([buffer.float().flatten() for buffer in buffers])
    all_reduce(values, 'mean')
    for buffer, value in zip(buffers, values.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(value.view_as(buffer))
