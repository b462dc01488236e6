"""From records of single images to figures with confidence intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from paif_mm.evaluation.score import MeanIoU
from paif_mm.evaluation.worst_case import worst_accuracy, worst_miou

Interval = dict[str, float | None]  # value, low, high


class Bootstrap:
    """Confidence intervals over images: percentiles of the figure over resampled data sets.

    All figures of a report share their resamples, so that differences between cases are compared image by image.

    Args:
        images: how many there are.
        resamples: how many data sets are drawn, with replacement.
        seed: of the draws.
        level: of the intervals.
    """

    def __init__(self, images: int, resamples: int = 1000, seed: int = 0, level: float = 0.95):
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
        self.weights = np.concatenate([np.ones((1, images)), drawn.astype(np.float64)])  # the data set itself first
        tail = 100 * (1 - level) / 2
        self.percentiles = tail, 100 - tail

    def figures(self, score, members: np.ndarray | None = None) -> dict[str, Interval]:
        """Figures of a score, of a group of images if ``members`` (N,) says which belong to it."""
        weights = self.weights if members is None else self.weights * members
        return {name: self.interval(values) for name, values in score.figures(weights).items()}

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


def worst_case(scores: Sequence, classes: Sequence[str], records: Sequence[Sequence[Mapping]]) -> tuple:
    """The worst case over attacks.

    Segmentation, as SEA (Croce et al., ECCV 2024): ``image-wise``, each image under the attack that leaves it the
    lowest accuracy, for the accuracy of pixels; ``joint``, a greedy choice for the lowest mIoU, for the mIoU.
    Detection: each image under the attack that leaves it the lowest AP50 by itself, where equal the one with the
    largest sum of scores of false detections.

    Args:
        scores: one of each attack, with all images.
        classes: names.
        records: of each attack, one per image.

    Returns:
        (name -> score of the chosen records, name -> attack of each image (N,))
    """
    kind = type(scores[0])
    _, image_wise = worst_accuracy(np.stack([score.per_image() for score in scores]))
    choices = {'image-wise': image_wise}
    if kind is MeanIoU:
        intersections, unions = (np.stack([getattr(s, key) for s in scores]) for key in ('intersect', 'union'))
        choices['joint'] = worst_miou(intersections, unions, image_wise)[1]
    chosen = {
        name: kind([records[attack][image] for image, attack in enumerate(choice)], classes)
        for name, choice in choices.items()
    }
    return chosen, choices
