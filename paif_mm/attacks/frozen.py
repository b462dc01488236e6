"""A model held still while its inputs are attacked."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from mmengine.model import is_model_wrapper
from torch import nn

from .foreign import alone, checkpoints_without_reentry, composite_modules, no_checkpoints, no_functional_dropout
from .state import PlainState


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a (distributed) wrapper: attacks must not synchronise gradients."""
    return model.module if is_model_wrapper(model) else model


@contextmanager
def frozen(model: nn.Module, dtype: torch.dtype = torch.float32, parameters: bool = False) -> Iterator[None]:
    """Evaluation mode, no parameter gradients, gradients towards inputs allowed; all restored on exit.

    Batch-norm statistics and dropout stay untouched, each module gets its own former mode back, and so after an
    exception. Passes are in fp32, also inside the autocast of a training with mixed precision, or in autocast to
    another ``dtype``. Activation checkpoints (``with_cp=True``) save memory as before, but allow
    ``torch.autograd.grad``.

    Args:
        model: not wrapped.
        dtype: of the passes.
        parameters: leave them their gradients, for losses that are differentiated on after the exit. Activation
            checkpoints, which would compute their activations again in another mode then, keep them.
    """
    modes = [(module, module.training) for module in model.modules()]
    required = [] if parameters else [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = next((p.device.type for p in model.parameters()), 'cpu')
    precision = torch.autocast(device, dtype, enabled=dtype != torch.float32)
    outermost = model not in _ASKED
    try:
        _ASKED.setdefault(model)
        _MEMORIES.setdefault(model, {})
        _set_modes((module, False) for module, _ in modes)
        for parameter in required:
            parameter.requires_grad_(False)
        checkpoints = no_checkpoints if parameters else checkpoints_without_reentry
        with torch.enable_grad(), precision, checkpoints():
            yield
    finally:
        _set_modes(modes)
        for parameter in required:
            parameter.requires_grad_(True)
        if outermost:
            _ASKED.pop(model, None)
            _MEMORIES.pop(model, None)


def memory_of(model: nn.Module) -> dict:
    """What objectives may keep of a :func:`frozen` model, whose weights stay as they are: empty when that begins."""
    return _MEMORIES.get(model, {})


@contextmanager
def loss_mode(model: nn.Module) -> Iterator[None]:
    """What a :func:`frozen` model needs in order to tell its own training loss, and nothing of it afterwards.

    Detectors, heads and the like compute their losses from what they return in training mode, and are put into it.
    What normalises by the batch or drops out at random stays in evaluation mode (see
    :func:`~.foreign.composite_modules`). Buffers and plain attributes that training updates (moving averages, counters,
    histories) are put back, and processes don't average over each other's objects: the loss is a function of the image.
    """
    asked = _ASKED.get(model) or _Asked(model)
    if model in _ASKED:
        _ASKED[model] = asked
    modes = [(module, module.training) for module in asked.composite]
    try:
        _set_modes((module, True) for module in asked.composite)
        with no_functional_dropout(), alone():
            yield
    finally:
        _set_modes(modes)
        asked.state.restore()


class _Asked:
    """What :func:`loss_mode` needs to know of a model, once per attack."""

    def __init__(self, model: nn.Module):
        self.composite = composite_modules(model)
        self.state = PlainState(model)


#: Of frozen models; None until they are asked for their loss.
_ASKED: WeakKeyDictionary[nn.Module, _Asked | None] = WeakKeyDictionary()
_MEMORIES: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()


def _set_modes(modes) -> None:
    for module, training in modes:
        module.__dict__['training'] = training  # a tenth of the time of nn.Module's own setter


def fingerprint(model: nn.Module) -> str:
    """Digest of all parameters, buffers and module modes: equal before and after an attack that left no trace."""
    digest = hashlib.sha1()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    digest.update(bytes(module.training for module in model.modules()))
    digest.update(bytes(parameter.requires_grad for parameter in model.parameters()))
    return digest.hexdigest()
