"""What attacks may do to an image, and which of them stay inside of which others."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from paif_mm.attacks import Budget

SLACK = 1 + 1e-9  # of radii that were added up


class Ball(NamedTuple):
    """All images that an attack may show in the place of one; the image itself is the ball without parts.

    Attributes:
        norm (str): ``linf`` or ``l2``.
        parts (tuple): (first channel, last channel + 1, radius in [0, 1] units), disjoint, of positive radius. L-inf:
            the largest change of any value. L2: the norm of the change of these channels together.
    """

    norm: str = 'linf'
    parts: tuple[tuple[int, int, float], ...] = ()

    @classmethod
    def of(cls, norm: str, budgets: Sequence[Budget]) -> 'Ball':
        """From budgets in pixel values."""
        parts = [(b.channels.start, b.channels.stop, b.eps / 255) for b in budgets if b.eps > 0]
        return cls(norm, tuple(parts))

    def contains(self, other: 'Ball', pixels: int) -> bool:
        """Whether every image of another ball around the same clean image of so many pixels lies in this one.

        A single value changes by no more than its L2 norm, and n values within r have a norm of at most r sqrt(n).
        """
        if any(self._radius(channel) is None for channel in other._channels()):
            return False
        if self.norm == 'linf':
            return all(other._radius(channel) <= self._radius(channel) * SLACK for channel in other._channels())
        return all(other._length(first, last, pixels) <= radius * SLACK for first, last, radius in self.parts)

    def _channels(self) -> list[int]:
        return [channel for first, last, _ in self.parts for channel in range(first, last)]

    def _radius(self, channel: int) -> float | None:
        """By how much a value of a channel may change at most."""
        return next((radius for first, last, radius in self.parts if first <= channel < last), None)

    def _length(self, first: int, last: int, pixels: int) -> float:
        """The largest L2 norm of a change in these channels."""
        inside = [(max(first, a), min(last, b), radius) for a, b, radius in self.parts if a < last and b > first]
        if self.norm == 'l2':
            return math.sqrt(sum(radius**2 for _, _, radius in inside))
        return math.sqrt(sum((b - a) * pixels * radius**2 for a, b, radius in inside))
