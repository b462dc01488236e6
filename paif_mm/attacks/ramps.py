"""What grows over the first iterations of an adversarial training."""

from collections.abc import Mapping
from copy import copy

from .attack import PGD

RAMPS = ('eps', 'ratio', 'steps')


class Ramps:
    """Linear growth of an attack's radius, of its steps and of the share of attacked images.

    Args:
        attack (Attack): at its full strength.
        lengths (dict): iterations until ``eps`` (from 0, the step size with it), ``ratio`` (from 0) and ``steps`` (from
            1) are full; what is not named is so from the start.

    Raises:
        ValueError: another name, or a length below 1.
        TypeError: no dict, an attack without a radius, or without several steps.
    """

    def __init__(self, attack, lengths: dict[str, int]):
        if not isinstance(lengths, Mapping):
            raise TypeError(f'ramp must be a dict, e.g. dict(eps=2000), not {lengths!r}')
        unknown = set(lengths) - set(RAMPS)
        if unknown:
            raise ValueError(f'ramp knows {", ".join(RAMPS)}, not {", ".join(sorted(unknown))}')
        if any(not isinstance(length, int) or length < 1 for length in lengths.values()):
            raise ValueError(f'ramp must be in iterations from 1 on: {dict(lengths)}')
        if {'eps', 'steps'} & set(lengths) and not isinstance(attack, PGD):
            raise TypeError(f'ramp of {", ".join(lengths)} needs an attack with a radius, not {type(attack).__name__}')
        if 'steps' in lengths and attack.steps == 1:
            raise TypeError(f'ramp of steps needs an attack of several steps, and {type(attack).__name__} has one here')
        self.attack = attack
        self.lengths = lengths

    def grown(self, name: str, iteration: int) -> float:
        """Share of its full value that something has in an iteration, counted from the first attacked one."""
        return min(1.0, (iteration + 1) / self.lengths[name]) if name in self.lengths else 1.0

    def at(self, iteration: int):
        """The attack as strong as it is in an iteration."""
        radius, share = self.grown('eps', iteration), self.grown('steps', iteration)
        if radius == share == 1:
            return self.attack
        attack = copy(self.attack)
        attack.eps, attack.step_size = _times(radius, attack.eps), _times(radius, attack.step_size)
        attack.steps = round(1 + (attack.steps - 1) * share)
        return attack


def _times(factor: float, value: float | dict) -> float | dict:
    return {key: factor * v for key, v in value.items()} if isinstance(value, dict) else factor * value
