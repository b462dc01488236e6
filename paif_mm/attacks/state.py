"""What a model remembers beside its parameters: buffers, and plain attributes of its modules and their helpers."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from paif_mm.perception import PairFuser

from .foreign import is_torchs_own

_INTERNAL = {*vars(nn.Module()), 'training'}  # torch's own bookkeeping
_CONTAINERS = (list, dict, OrderedDict, set, deque)
_DEPTH = 2  # a head's assigner, and what that one holds
_STRANGERS = ('torch', 'numpy', 'logging', 'builtins', 'mmengine')  # whose objects are no part of a model's state


class PlainState:
    """Remembers buffers and plain attributes, and puts back those that have changed.

    Training updates some in passing: moving averages of bases (EMANet), counts of classes (seesaw loss), histories from
    which thresholds follow (Dynamic R-CNN). Plain attributes are numbers, texts, tensors without gradients, and
    containers of anything, one level deep, of modules and of plain objects that these hold (assigners, samplers).
    torch's own modules have none that change, and the adapters of a fusion network keep what the last batch left there.
    """

    def __init__(self, model: nn.Module):
        modules = [m for m in model.modules() if not is_torchs_own(m) and not isinstance(m, PairFuser)]
        self.spaces = [(space, _copied(space)) for space in _namespaces(modules)]
        self.tensors = [
            _Tensor(module._buffers, name, value)
            for module in model.modules()
            for name, value in module._buffers.items()
            if value is not None
        ]
        for space, values in self.spaces:
            self.tensors += [_Tensor(space, name, v) for name, (v, _) in values.items() if isinstance(v, Tensor)]

    def restore(self) -> None:
        for space, values in self.spaces:
            for name in [name for name in space if name not in values and _is_plain(name, space[name])]:
                del space[name]  # made in passing
            for name, (value, content) in values.items():
                if content is not None and not _same(value, content):
                    _refill(value, content)
                if space.get(name, self) is not value:
                    space[name] = value
        for tensor in self.tensors:
            tensor.restore()


class _Tensor:
    """A tensor under a name, its content, and by what to see that neither has changed."""

    def __init__(self, space: dict, name: str, value: Tensor):
        self.space, self.name, self.value = space, name, value
        self.version, self.content = value._version, value.detach().clone()

    @torch.no_grad()
    def restore(self) -> None:
        if self.value._version != self.version:
            self.value.copy_(self.content)
            self.version = self.value._version
        self.space[self.name] = self.value


def _namespaces(modules: Iterable[nn.Module]) -> Iterator[dict]:
    """Attributes of modules, and of the plain objects that they hold."""
    seen, level = set(), modules
    for _ in range(_DEPTH + 1):
        found = []
        for owner in level:
            space = vars(owner)
            if id(space) in seen:
                continue
            seen.add(id(space))
            yield space
            found += [value for name, value in space.items() if name not in _INTERNAL and _is_helper(value)]
        level = found


def _is_helper(value) -> bool:
    kind = type(value)
    foreign = kind.__module__.partition('.')[0] in _STRANGERS
    return (
        hasattr(value, '__dict__') and not foreign and not isinstance(value, (nn.Module, type)) and not callable(value)
    )


def _is_plain(name: str, value) -> bool:
    if name in _INTERNAL:
        return False
    if isinstance(value, Tensor):
        return not value.requires_grad
    return value is None or isinstance(value, (bool, int, float, str, tuple)) or type(value) in _CONTAINERS


def _copied(space: dict) -> dict:
    """Name -> (value, copy of what it contains, or None) of the plain attributes."""
    return {
        name: (value, value.copy() if type(value) in _CONTAINERS else None)
        for name, value in space.items()
        if _is_plain(name, value)
    }


def _same(value, content) -> bool:
    """Whether a container holds the very objects of a copy."""
    if len(value) != len(content):
        return False
    if isinstance(value, set):
        return value == content
    if isinstance(value, dict):
        return all(a is content.get(key, content) for key, a in value.items())
    return all(a is b for a, b in zip(value, content, strict=True))


def _refill(value, content) -> None:
    value.clear()
    value.extend(content) if isinstance(value, (list, deque)) else value.update(content)
