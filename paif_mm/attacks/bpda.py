"""Backward pass differentiable approximation (BPDA, Athalye et al., ICML 2018): gradients through what hides them.

A module that quantises, clamps, or leaves the graph has no gradient that leads anywhere. An attacker who knows it runs
it as it is, and differentiates something smooth that does nearly the same in its place. For what only nudges its input
that is the identity (the straight-through estimator).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

IDENTITY = 'identity'

_REACHED: WeakSet[nn.Module] = WeakSet()  # modules in whose place something was differentiated once


def read_bpda(bpda: Mapping | None) -> dict[str, Callable]:
    """Module name -> what is differentiated in its place.

    Args:
        bpda: name of a module in the model, as ``model.named_modules()`` has it -> ``'identity'`` (the module's first
            argument); a callable with the module's arguments, which returns what the module does, in the same shapes;
            or where to import one from, ``'package.module.function'``. A dict in the place of a value goes on with the
            name, so that ``--cfg-options adaptive.bpda.data_preprocessor.quantise=identity`` reaches it.

    Raises:
        ValueError: it is no dict, or a value is none of these or can't be imported.
    """
    bpda = {} if bpda is None else bpda
    if not isinstance(bpda, Mapping):
        raise ValueError(
            f"bpda must name modules and what is differentiated in their place, e.g. {{'MODULE': 'identity'}} "
            f'(--cfg-options adaptive.bpda.MODULE=identity), not {bpda!r}'
        )
    found = {}
    for name, value in bpda.items():
        if isinstance(value, Mapping):
            found |= {f'{name}.{inner}': surrogate for inner, surrogate in read_bpda(value).items()}
        else:
            found[name] = _surrogate(name, value)
    return found


def _surrogate(name: str, value) -> Callable:
    if callable(value):
        return value
    if value == IDENTITY:
        return _first_argument
    module, _, function = value.rpartition('.') if isinstance(value, str) else ('', '', '')
    try:
        surrogate = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"bpda of {name} must be 'identity', a callable, or 'package.module.function', not {value!r} ({error})"
        ) from None
    return surrogate


def _first_argument(*args, **kwargs):
    return next(iter((*args, *kwargs.values())))


def check_modules(model: nn.Module, names) -> None:
    """Raise a ValueError where a model has no module of a name."""
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            near = get_close_matches(name, modules, n=1, cutoff=0.0)[0]
            raise ValueError(f'bpda: {type(model).__name__} has no module {name!r}; the nearest name is {near!r}')


@contextmanager
def substituted(model: nn.Module, bpda: Mapping[str, Callable], partial: bool = False) -> Iterator[None]:
    """Let some modules of a model run as they are, and be differentiated as something else.

    Args:
        model: not wrapped.
        bpda: of :func:`read_bpda`.
        partial: whether inside only a part of the model is differentiated, so that some modules may not be reached.

    Raises:
        ValueError: the model has no module of a name; inside, where a surrogate's output is not of a module's shapes;
            at the end, where a module has never run with gradients, as one that only holds others.
    """
    check_modules(model, bpda)
    former = {name: vars(model.get_submodule(name)).get('forward') for name in bpda}  # None: its class's
    try:
        for name, surrogate in bpda.items():
            module = model.get_submodule(name)
            module.forward = _straight_through(module, name, surrogate)
        yield
    finally:
        for name, forward in former.items():
            vars(model.get_submodule(name)).pop('forward')
            if forward is not None:
                model.get_submodule(name).forward = forward
    for name in () if partial else bpda:
        if model.get_submodule(name) not in _REACHED:
            kind = type(model.get_submodule(name)).__name__
            raise ValueError(
                f'bpda of {name} has no effect: no gradient was taken through that {kind}, which the model does not '
                'call, or only without gradients; name a module that it calls'
            )


def _straight_through(module: nn.Module, name: str, surrogate: Callable) -> Callable:
    forward = module.forward

    def substituted_forward(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        _REACHED.add(module)
        smooth = surrogate(*args, **kwargs)
        with torch.no_grad():  # detached, so that what leaves torch on its way runs as well
            args, kwargs = pytree.tree_map_only(Tensor, Tensor.detach, (args, kwargs))
            exact = forward(*args, **kwargs)
        (there, kind), (here, other) = pytree.tree_flatten(exact), pytree.tree_flatten(smooth)
        if kind != other or [_shape(leaf) for leaf in there] != [_shape(leaf) for leaf in here]:
            raise ValueError(
                f'bpda of {name}: what is differentiated gives {_described(here)}, but the module {_described(there)}'
            )
        leaves = [
            _ValueAndSlope.apply(a, b) if isinstance(a, Tensor) and a.is_floating_point() else a
            for a, b in zip(there, here, strict=True)
        ]
        return pytree.tree_unflatten(leaves, kind)

    return substituted_forward


class _ValueAndSlope(torch.autograd.Function):
    """The value of one tensor, with the gradient of another."""

    @staticmethod
    def forward(ctx, value: Tensor, slope: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return None, gradient


def _shape(leaf) -> tuple | None:
    return tuple(leaf.shape) if isinstance(leaf, Tensor) else None


def _described(leaves: list) -> str:
    return ', '.join(str(_shape(leaf)) for leaf in leaves if isinstance(leaf, Tensor)) or 'no tensor'
