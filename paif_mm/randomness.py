"""The global random generators of this process: their states, and draws that leave no trace in them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from mmengine.dist import broadcast


def shared_seed(runner) -> int:
    """The seed of the first process's run: others may have seeds of their own."""
    seed = torch.tensor(runner.seed)
    broadcast(seed)
    return int(seed)


def random_state() -> dict:
    """This process's random states as tensors and plain containers, which a weights-only loader reads."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        'python': (version, list(words), gauss),
        'numpy': (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict) -> None:
    """Restore what :func:`random_state` returned."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@contextmanager
def kept_draws(device: torch.device | str = 'cpu') -> Iterator[None]:
    """Whatever is drawn inside, by Python, NumPy, or torch on the CPU or on ``device``: as if it had not been.

    All global generators are as before afterwards, also after an exception. Other devices' generators are not touched:
    what runs on one device draws there.
    """
    states = _states(device)
    try:
        yield
    finally:
        _set_states(device, states)


@contextmanager
def fixed_draws(device: torch.device | str = 'cpu', seed: int = 0) -> Iterator[None]:
    """:func:`kept_draws`, with the same numbers drawn inside every time.

    It seeds the generators themselves: ``torch.manual_seed`` and its like seed those of all devices, for good.
    """
    with kept_draws(device):
        _seed(device, seed)
        yield


class OwnDraws:
    """A stream of draws beside the global ones: each ``with`` goes on where the last one ended.

    So code that draws from global generators sees other numbers every time, and they are as before afterwards.

    Args:
        device: whose CUDA generator takes part; on a CPU, none.
        seed: where the stream begins.
    """

    def __init__(self, device: torch.device | str = 'cpu', seed: int = 0):
        self.device, self.seed = device, seed
        self.states: tuple | None = None

    def __enter__(self) -> None:
        self._global = kept_draws(self.device)
        self._global.__enter__()
        if self.states is None:
            _seed(self.device, self.seed)
        else:
            _set_states(self.device, self.states)

    def __exit__(self, *error) -> None:
        self.states = _states(self.device)
        self._global.__exit__(*error)


def _states(device: torch.device | str) -> tuple:
    return random.getstate(), np.random.get_state(), [generator.get_state() for generator in _generators(device)]


def _set_states(device: torch.device | str, states: tuple) -> None:
    python, numpy, torchs = states
    random.setstate(python)
    np.random.set_state(numpy)
    for generator, state in zip(_generators(device), torchs, strict=True):
        generator.set_state(state)


def _seed(device: torch.device | str, seed: int) -> None:
    python, numpy = _seeded(seed)
    random.setstate(python)
    np.random.set_state(numpy)
    for generator in _generators(device):
        generator.manual_seed(seed)


def _generators(device: torch.device | str) -> list[torch.Generator]:
    """torch's global generators that code running on a device draws from."""
    device = torch.device(device)
    if device.type != 'cuda':
        return [torch.default_generator]
    torch.cuda.init()  # they do not exist before
    index = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[index]]


@lru_cache(maxsize=8)
def _seeded(seed: int) -> tuple[tuple, tuple]:
    """States of Python's and NumPy's generators after seeding."""
    return random.Random(seed).getstate(), np.random.RandomState(seed).get_state()
