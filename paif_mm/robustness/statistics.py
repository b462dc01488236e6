"""From records of single images to figures with confidence intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paif_mm.evaluation.score import AveragePrecision, MeanIoU
from paif_mm.evaluation.worst_case import worst_accuracy, worst_choices

from .blocks import Blocks, run_length

Interval = dict[str, float | None]  # value, low, high


class Bootstrap:
    """Confidence intervals over images: percentiles of the figure over resampled data sets.

    All figures of a report share their resamples, so that differences between cases are compared image by image.

    Args:
        blocks: what is drawn; a number of images: single ones.
        resamples: how many data sets are drawn, with replacement.
        seed: of the draws.
        level: of the intervals.
    """

    def __init__(self, blocks: Blocks | int, resamples: int = 1000, seed: int = 0, level: float = 0.95):
        self.blocks = Blocks(list(range(blocks))) if isinstance(blocks, int) else blocks
        drawn = self.blocks.weights(resamples, np.random.default_rng(seed))
        self.weights = np.concatenate([np.ones((1, drawn.shape[1])), drawn])  # the data set itself first
        tail = 100 * (1 - level) / 2
        self.percentiles = tail, 100 - tail

    def figures(self, score, members: np.ndarray | None = None) -> dict[str, Interval]:
        """Figures of a score, of a group of images if ``members`` (N,) says which belong to it."""
        weights = self.weights if members is None else self.weights * members
        return {name: self.interval(values) for name, values in score.figures(weights).items()}

    def difference(self, score, other=None) -> Interval:
        """How much higher the leading figure of one score is than that of another on the same images, or than 0."""
        values = score.value(score.name, self.weights)
        return self.interval(values if other is None else values - other.value(other.name, self.weights))

    def mean(self, values: Sequence[float]) -> Interval:
        """Mean over images, those without a finite value left out."""
        values = np.asarray(values, np.float64)
        known = np.isfinite(values)
        count = self.weights @ known
        sums = self.weights @ np.where(known, values, 0)
        return self.interval(np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0))

    def interval(self, values: np.ndarray) -> Interval:
        """The first value, and the percentiles of the others; None where there is none."""
        drawn = values[1:][~np.isnan(values[1:])]
        low, high = np.percentile(drawn, self.percentiles) if len(drawn) else (np.nan, np.nan)
        numbers = {'value': values[0], 'low': low, 'high': high}
        return {key: None if np.isnan(number) else round(float(number), 4) for key, number in numbers.items()}


def influences(score) -> np.ndarray:
    """What each image (N,) adds to the leading figure: N times what leaving it out takes away."""
    values = score.value(score.name, np.concatenate([np.ones((1, score.count)), 1 - np.eye(score.count)]))
    return score.count * (values[0] - values[1:])


def chosen_blocks(images: Sequence[str], scores: Sequence) -> Blocks:
    """Runs of images as long as what they add to the leading figure of any of several scores is alike."""
    order = Blocks.runs(images).order
    return Blocks.runs(images, max(run_length(influences(score)[order]) for score in scores))


@dataclass
class WorstCase:
    """Which attack each image is taken under.

    Attributes:
        score: the chosen records: of the choice for the leading figure.
        choices (dict): figure -> attack of each image (N,): the score's two figures, and ``image-wise``.
        figures (dict): figure -> score of its own choice.
    """

    score: MeanIoU | AveragePrecision
    choices: dict[str, np.ndarray]
    figures: dict[str, MeanIoU | AveragePrecision]


def worst_case(scores: Sequence, members: np.ndarray | None = None, starts: Sequence[Mapping] = ()) -> WorstCase:
    """The worst case over attacks: for each figure, an attack for every image.

    The leading figure (mIoU, AP50) is searched greedily, as in SEA (Croce et al., ECCV 2024); the second one
    (mIoU_paper, mAP) is the lowest of what the search came by. ``image-wise`` is each image under the attack that
    leaves it the lowest accuracy, for the accuracy of pixels (detection: the lowest AP50 by itself, where equal the
    one with the largest sum of scores of false detections). No figure is above that of an attack or of a start.

    Args:
        scores: one of each attack, with all images.
        members: (N,), which images count. Default: all.
        starts: choices of smaller balls, as :attr:`WorstCase.choices`.
    """
    kind, pooled = type(scores[0]), type(scores[0]).joined(scores)
    count = scores[0].count
    images = np.arange(count) if members is None else np.flatnonzero(members)
    _, image_wise = worst_accuracy(np.stack([score.per_image() for score in scores]))
    known = [start[name] for start in starts for name in (kind.name, kind.second)]
    choices = worst_choices(pooled, len(scores), images, [image_wise, *known])
    choices['image-wise'] = image_wise
    figures = {name: pooled.take(choice * count + np.arange(count)) for name, choice in choices.items()}
    return WorstCase(figures[kind.name], choices, figures)
