"""The worst case over several attacks on one model: image-wise for accuracy, jointly for the data set's mIoU."""

import numpy as np


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


def worst_miou(intersections: np.ndarray, unions: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """The lowest mIoU that choosing one attack per image finds (greedy, as in SEA, Croce et al., ECCV 2024).

    The mIoU of a data set is no mean over images, so that each image's choice depends on the others'. From ``start``,
    the images take turns: each moves to the attack that lowers the mIoU most, until a whole round changes nothing.
    Every move lowers the mIoU, so that it ends, never above the start's; another combination may be worse still.

    Args:
        intersections, unions: (A, N, K), pixels of each class, for A attacks on N images.
        start: attack of each image (N,), e.g. :func:`worst_accuracy`'s.

    Returns:
        (mIoU in percent over classes that occur, attack of each image (N,))
    """
    choice = np.array(start)
    images = np.arange(len(choice))
    intersection = intersections[choice, images].sum(0).astype(np.float64)
    union = unions[choice, images].sum(0).astype(np.float64)
    best = _miou(intersection, union)
    moved = True
    while moved:
        moved = False
        for image in images:
            others = intersection - intersections[choice[image], image], union - unions[choice[image], image]
            tried = _miou(others[0] + intersections[:, image], others[1] + unions[:, image])  # (A,)
            lowest = int(tried.argmin())
            if tried[lowest] < best - 1e-12:
                choice[image], best, moved = lowest, tried[lowest], True
                intersection = others[0] + intersections[lowest, image]
                union = others[1] + unions[lowest, image]
    return float(best), choice


def _miou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """(..., K) -> (...); percent, over classes that occur."""
    occurs = union > 0
    iou = np.divide(intersection, union, out=np.zeros(union.shape), where=occurs)
    return 100 * iou.sum(-1) / np.maximum(occurs.sum(-1), 1)
