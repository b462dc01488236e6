"""Synchronised batch norm on a CPU: torch's own module, with the mathematics of its CUDA kernels done over gloo."""

from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class GlooExchange:
    """Stands in for ``torch.nn.modules._functions.SyncBatchNorm``: batch norm by the sums over all processes."""

    @staticmethod
    def apply(x: Tensor, weight, bias, running_mean, running_var, eps, momentum, process_group, world_size) -> Tensor:
        sums = torch.stack([x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), x.new_full((x.size(1),), x[:, 0].numel())])
        total, square, count = all_reduce(sums, group=process_group)  # (C,) each
        mean = total / count
        variance = square / count - mean.square()
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * count / (count - 1), momentum)
        mean, variance, weight, bias = (v[:, None, None] for v in (mean, variance, weight, bias))
        return (x - mean) / (variance + eps).sqrt() * weight + bias


class CpuSyncBatchNorm(nn.SyncBatchNorm):
    """torch's own forward pass, which takes the CPU for one of the devices that it lets pass."""

    def forward(self, x: Tensor) -> Tensor:
        with (
            patch('torch._C._get_privateuse1_backend_name', lambda: 'cpu'),
            patch('torch.nn.modules.batchnorm.sync_batch_norm', GlooExchange),
        ):
            return super().forward(x)


def synchronise_on_cpu(model: nn.Module) -> nn.Module:
    """Convert every batch norm of a model; wrappers of this process then accept it on a CPU."""
    nn.parallel.DistributedDataParallel._passing_sync_batchnorm_handle = lambda self, module: None
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = CpuSyncBatchNorm
    return model


def without_dropout(model: nn.Module) -> nn.Module:
    """No random layers, so that two runs see the same numbers."""
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0
    return model
