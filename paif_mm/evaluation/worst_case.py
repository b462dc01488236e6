"""The worst case over several attacks on one model: one for each image, so that a figure of all images is lowest.

A figure of a data set (mIoU, average precision) is no mean over images, so that each image's choice depends on the
others'. SEA (Croce et al., ECCV 2024) chooses greedily; so does this, from several starts, of which the lowest counts.
"""

from collections.abc import Sequence

import numpy as np

from .score import AveragePrecision, MeanIoU

#: Where an image under one attack stands among the records of all: attack x images + image.
Pooled = MeanIoU | AveragePrecision


def worst_accuracy(accuracies: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over images of the lowest accuracy that any attack reaches on each.

    Args:
        accuracies: (A, N), of A attacks on N images; NaN where an image has no labelled pixel.

    Returns:
        (mean, attack of each image (N,))
    """
    filled = np.where(np.isnan(accuracies), np.inf, accuracies)
    choice = filled.argmin(0)
    lowest = filled.min(0)
    return float(lowest[np.isfinite(lowest)].mean()), choice


def worst_choices(
    pooled: Pooled, attacks: int, images: np.ndarray, starts: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """The attack of each image for the lowest value of the score's two figures that was found.

    The leading one is searched greedily from two starts: the image-wise choice and the lowest of all others. Neither
    figure is above that of any attack or of any start.

    Args:
        pooled: the score of all records of one attack after those of another, A x N.
        attacks: A.
        images: those that count, in rising order; the others stay with attack 0.
        starts: choices (N,) to begin with, e.g. the worst case of a smaller ball, and the image-wise choice first.

    Returns:
        name of the figure -> (N,)
    """
    count = pooled.count // attacks
    candidates = [np.array(start) for start in starts]
    candidates += [np.full(count, attack) for attack in range(attacks)]
    for candidate in candidates:
        candidate[~np.isin(np.arange(count), images)] = 0
    others = candidates[1:]
    lowest = others[_lowest(pooled, pooled.name, images, others)]
    begins = [candidates[0]] if np.array_equal(lowest, candidates[0]) else [candidates[0], lowest]
    search = _IoUSearch if isinstance(pooled, MeanIoU) else _PrecisionSearch
    candidates += [_descend(search(pooled, attacks, images, begin), images, begin) for begin in begins]
    return {name: candidates[_lowest(pooled, name, images, candidates)] for name in (pooled.name, pooled.second)}


def _lowest(pooled: Pooled, name: str, images: np.ndarray, candidates: Sequence[np.ndarray]) -> int:
    """Which of several choices leaves a figure the lowest; of equals the last."""
    weights = np.zeros((len(candidates), pooled.count))
    for row, choice in zip(weights, candidates, strict=True):
        row[choice[images] * len(choice) + images] = 1
    values = np.nan_to_num(pooled.value(name, weights), nan=np.inf)
    return len(values) - 1 - int(values[::-1].argmin())


def _descend(search: '_IoUSearch | _PrecisionSearch', images: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Images take turns: each moves to the attack that lowers the figure most, until a whole round changes nothing.

    Every move lowers the figure, so that it ends, never above the start's; another combination may be lower still.
    """
    choice, moved = np.array(start), True
    while moved:
        moved = False
        for image in images:
            found = np.nan_to_num(search.tries(image, choice[image]), nan=np.inf)  # (A,)
            lowest = int(found.argmin())
            if found[lowest] < found[choice[image]] - 1e-12:
                search.move(image, choice[image], lowest)
                choice[image], moved = lowest, True
    return choice


class _IoUSearch:
    """The mIoU under each attack on one image, the others as they are."""

    def __init__(self, pooled: MeanIoU, attacks: int, images: np.ndarray, start: np.ndarray):
        self.parts = np.stack([pooled.intersect, pooled.union]).reshape(2, attacks, len(start), -1)  # (2, A, N, K)
        self.sums = self.parts[:, start[images], images].sum(1)  # (2, K)

    def tries(self, image: int, attack: int) -> np.ndarray:
        intersect, union = self.sums[:, None] - self.parts[:, attack, None, image] + self.parts[:, :, image]  # (A, K)
        occurs = union > 0
        iou = np.divide(intersect, union, out=np.zeros(union.shape), where=occurs)
        return 100 * iou.sum(-1) / np.maximum(occurs.sum(-1), 1)

    def move(self, image: int, before: int, after: int) -> None:
        self.sums += self.parts[:, after, image] - self.parts[:, before, image]


class _PrecisionSearch:
    """The same of AP50."""

    def __init__(self, pooled: AveragePrecision, attacks: int, images: np.ndarray, start: np.ndarray):
        self.pooled, self.count = pooled, len(start)
        self.places = np.arange(attacks) * self.count
        self.kept = np.zeros(pooled.count, bool)
        self.kept[self.places[start[images]] + images] = True

    def tries(self, image: int, attack: int) -> np.ndarray:
        others = self.kept.copy()
        others[self.places[attack] + image] = False
        return self.pooled.with_one_of(others, self.places + image)

    def move(self, image: int, before: int, after: int) -> None:
        self.kept[self.places[[before, after]] + image] = False, True
