"""How other people's modules behave in training, and what of it an attack must go around."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from paif_mm.perception import find_fuser

_DROPOUTS = [name for name in dir(F) if re.fullmatch(r'(feature_)?(alpha_)?dropout([123]d)?', name)]


def composite_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that may be in training mode while it is attacked.

    These are the ones that put others together: detectors, heads, necks, backbones. Left out are torch's own modules,
    batch norms of any kind, dropout and drop path of any library (known by base class or by name), the fusion network,
    and the data preprocessor, which is told by an argument.
    """
    fuser = find_fuser(model)
    ours = set() if fuser is None else set(fuser.fusion.modules())
    preprocessor = getattr(model, 'data_preprocessor', None)
    if isinstance(preprocessor, nn.Module):
        ours |= set(preprocessor.modules())
    return [module for module in model.modules() if module not in ours and not _reacts(module)]


def _reacts(module: nn.Module) -> bool:
    """Whether a module's mode decides if it draws at random or changes statistics, rather than what it returns."""
    kind = type(module)
    if is_torchs_own(module) or isinstance(module, (_NormBase, _DropoutNd)):
        return True
    if isinstance(getattr(module, 'attn_drop', None), float):  # attention that drops out by its own mode
        return True
    names = [base.__name__.lower() for base in kind.__mro__]
    return any('batchnorm' in name or 'drop' in name or name == 'stochasticdepth' for name in names)


def is_torchs_own(module: nn.Module) -> bool:
    """Whether torch itself defines the class of a module, as of ``nn.Conv2d`` or ``nn.MultiheadAttention``."""
    return type(module).__module__.partition('.')[0] == 'torch'


@contextmanager
def alone() -> Iterator[None]:
    """Let a model believe that it runs in one process.

    Detectors divide their losses by the objects of all processes (``reduce_mean``). An attack asks about one image, and
    other processes about more or fewer: they would wait for each other for ever.
    """
    former = torch.distributed.is_initialized
    torch.distributed.is_initialized = lambda: False
    try:
        yield
    finally:
        torch.distributed.is_initialized = former


@contextmanager
def no_functional_dropout() -> Iterator[None]:
    """Switch off ``F.dropout(x, p, self.training)`` and its kin, which a module's mode can't."""
    former = {name: getattr(F, name) for name in (*_DROPOUTS, 'scaled_dot_product_attention')}

    def attention(query, key, value, attn_mask=None, dropout_p=0.0, *args, **kwargs):
        return former['scaled_dot_product_attention'](query, key, value, attn_mask, 0.0, *args, **kwargs)

    try:
        for name in _DROPOUTS:
            setattr(F, name, _unchanged)
        F.scaled_dot_product_attention = attention
        yield
    finally:
        for name, function in former.items():
            setattr(F, name, function)


def _unchanged(input: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    return input


@contextmanager
def checkpoints_without_reentry() -> Iterator[None]:
    """Let reentrant activation checkpoints, which forbid ``torch.autograd.grad``, run as non-reentrant ones.

    ``torch.utils.checkpoint.checkpoint`` looks its autograd function up by name when it is called; a stand-in under
    that name is met however a module has imported ``checkpoint``.
    """
    module = torch.utils.checkpoint
    former = module.CheckpointFunction
    module.CheckpointFunction = _NonReentrant
    try:
        yield
    finally:
        module.CheckpointFunction = former


class _NonReentrant:
    """Stands in for ``torch.utils.checkpoint.CheckpointFunction``."""

    @staticmethod
    def apply(function, preserve_rng_state: bool, *args):
        checkpoint = torch.utils.checkpoint.checkpoint
        return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve_rng_state)


@contextmanager
def no_checkpoints() -> Iterator[None]:
    """Let activation checkpoints keep their activations.

    What is computed here and differentiated later would else be computed again then, in whatever mode the model is.
    """
    module = torch.utils.checkpoint
    stand_ins = {'CheckpointFunction': _Kept, '_checkpoint_without_reentrant_generator': _nothing}
    former = {name: getattr(module, name) for name in stand_ins}
    try:
        for name, stand_in in stand_ins.items():
            setattr(module, name, stand_in)
        yield
    finally:
        for name, function in former.items():
            setattr(module, name, function)


class _Kept:
    """Stands in for ``torch.utils.checkpoint.CheckpointFunction``."""

    @staticmethod
    def apply(function, preserve_rng_state: bool, *args):
        return function(*args)


def _nothing(*args, **kwargs) -> Iterator[None]:
    """Stands in for what ``torch.utils.checkpoint.checkpoint`` does around a function without reentry."""
    yield
