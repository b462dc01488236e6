"""A model held still while its inputs are attacked."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.model import is_model_wrapper
from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a (distributed) wrapper: attacks must not synchronise gradients."""
    return model.module if is_model_wrapper(model) else model


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no parameter gradients, fp32, gradients towards inputs allowed; all restored on exit.

    Batch-norm statistics and dropout stay untouched, each module gets its own former mode back, and so after an
    exception.
    """
    modes = [(module, module.training) for module in model.modules()]
    required = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = next((p.device.type for p in model.parameters()), 'cpu')
    try:
        for module, _ in modes:
            module.training = False
        for parameter in required:
            parameter.requires_grad_(False)
        with torch.enable_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in required:
            parameter.requires_grad_(True)


def fingerprint(model: nn.Module) -> str:
    """Digest of all parameters, buffers and module modes: equal before and after an attack that left no trace."""
    digest = hashlib.sha1()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    digest.update(bytes(module.training for module in model.modules()))
    digest.update(bytes(parameter.requires_grad for parameter in model.parameters()))
    return digest.hexdigest()
