"""Which images stand or fall together: neighbouring frames of a video tell little more than one of them.

A bootstrap that draws single images takes near-duplicates as independent, and its intervals are too narrow. It draws
blocks instead (Kuensch 1989): runs of images in the order of their ids, or the images of one name.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Blocks:
    """Blocks of images, to be drawn with replacement.

    Attributes:
        order (list[int]): the images by their ids, numbers by value.
        length (int | None): runs of so many images, from any one on, the first following the last (circular block
            bootstrap, Politis and Romano 1992); None: blocks of one name.
        names (list[str] | None): the block of each image.
        key (str | None): the regular expression that made the names.
    """

    order: list[int]
    length: int | None = 1
    names: list[str] | None = None
    key: str | None = None

    @classmethod
    def runs(cls, images: Sequence[str], length: int = 1) -> 'Blocks':
        """Of the images of these ids.

        Raises:
            ValueError: there are fewer images than one run has.
        """
        if not 1 <= length <= len(images):
            raise ValueError(f'blocks must have 1 to {len(images)} images, as many as there are, not {length}')
        return cls(sorted(range(len(images)), key=lambda i: _by_number(images[i])), length)

    @classmethod
    def named(cls, images: Sequence[str], key: str) -> 'Blocks':
        """Images in whose ids a regular expression finds the same text (its first group, if it has one).

        Raises:
            ValueError: it is none, finds nothing in an id, or the same in all.
        """
        try:
            found = [re.search(key, image) for image in images]
        except re.error as error:
            raise ValueError(f'blocks {key!r} is no number of images and no regular expression: {error}') from None
        missing = [image for image, match in zip(images, found, strict=True) if not match]
        if missing:
            raise ValueError(f'blocks {key!r} finds no block in the id {missing[0]}')
        names = [match[match.re.groups and 1] or '' for match in found]
        if len(set(names)) < 2:
            raise ValueError(f'blocks {key!r} puts all images into one block: nothing is left to draw')
        return cls(list(range(len(images))), None, names, key)

    @property
    def count(self) -> float:
        """How many blocks there are."""
        return len(self.order) / self.length if self.names is None else len(set(self.names))

    def weights(self, resamples: int, rng: np.random.Generator) -> np.ndarray:
        """How often each image (N,) is in each of B resamples, (B, N)."""
        count = len(self.order)
        if self.length is None:
            blocks = {name: i for i, name in enumerate(dict.fromkeys(self.names))}
            drawn = rng.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=resamples)
            return drawn[:, [blocks[name] for name in self.names]].astype(np.float64)
        if self.length == 1:
            return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
        starts = rng.integers(0, count, (resamples, math.ceil(count / self.length)))
        places = (starts[..., None] + np.arange(self.length)).reshape(resamples, -1)[:, :count] % count
        weights = np.zeros((resamples, count))
        np.add.at(weights, (np.arange(resamples)[:, None], np.array(self.order)[places]), 1)
        return weights

    def __str__(self) -> str:
        if self.length is None:
            return f'{len(set(self.names))} blocks of images that {self.key!r} names alike'
        return 'single images' if self.length == 1 else f'runs of {self.length} images in the order of their ids'


def run_length(series: np.ndarray) -> int:
    """How many neighbours of a series (N,) belong into one block, from its own correlations.

    Politis and White 2004 (as corrected by Patton, Politis and White 2009), for the circular block bootstrap of a
    mean: correlations count up to twice the lag after which none of the next few is larger than chance; the length
    that makes the interval's error least grows with the cube root of N. At most a third of N. Values that are not
    finite are left out.
    """
    series = np.asarray(series, np.float64)
    series = series[np.isfinite(series)]
    count = len(series)
    if count < 8 or series.std() < 1e-12:
        return 1
    spread = series - series.mean()
    several = max(5, math.ceil(math.sqrt(math.log10(count))))
    most = min(math.ceil(math.sqrt(count)) + several, count - 1)
    covariance = np.array([spread[: count - lag] @ spread[lag:] / count for lag in range(most + 1)])
    chance = 2 * math.sqrt(math.log10(count) / count)
    small = np.abs(covariance[1:] / covariance[0]) < chance
    last = next((lag for lag in range(most - several + 1) if small[lag : lag + several].all()), most - several)
    reach = min(2 * max(last, 1), most)
    lags = np.arange(-reach, reach + 1)
    window = np.clip(2 * (1 - np.abs(lags) / reach), 0, 1)  # flat up to half of the reach
    at = covariance[np.abs(lags)]
    bias, variance = (window * np.abs(lags) * at).sum(), (window * at).sum()
    if variance <= 0:
        return 1
    length = (2 * bias**2 / (4 / 3 * variance**2)) ** (1 / 3) * count ** (1 / 3)
    return int(np.clip(math.ceil(length - 0.5), 1, max(count // 3, 1)))


def _by_number(text: str) -> list:
    """So that 9 comes before 10."""
    return [(0, int(part), '') if part.isdigit() else (1, 0, part) for part in re.split(r'(\d+)', text)]
