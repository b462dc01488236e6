"""Training in bfloat16, on a CPU, too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from paif_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """An ``OptimWrapper`` whose forward passes are in bfloat16 where that is safe (``torch.autocast``).

    What ``AmpOptimWrapper(dtype='bfloat16', loss_scale=1.0)`` of mmengine is on a GPU, which refuses CPUs; those with
    AMX or AVX512-BF16 instructions gain by it. bfloat16 has the range of fp32: no loss is scaled.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
