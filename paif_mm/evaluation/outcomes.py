"""What becomes of each object: found, misclassified, mislocated or vanished; and what is seen where nothing is."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torchvision.ops import box_iou

from paif_mm.registry import METRICS

FOUND, MISCLASSIFIED, MISLOCATED, VANISHED = OUTCOMES = ('found', 'misclassified', 'mislocated', 'vanished')
HALLUCINATED = 'hallucinated'


def object_outcomes(
    truth: np.ndarray,
    classes: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    ignored: np.ndarray | None = None,
    score: float = 0.3,
    iou: float = 0.5,
    near: float = 0.1,
) -> tuple[list[str], int]:
    """Sort the objects of one image by what the predictions make of them (error types after TIDE, ECCV 2020).

    Predictions of at least ``score`` are assigned to objects, the most confident first, in three rounds: 'found' (same
    class, overlap of at least ``iou``), 'misclassified' (such an overlap, another class), 'mislocated' (same class,
    overlap of at least ``near``). An object that remains has 'vanished'. A prediction that overlaps no object, ignored
    ones included, by ``near`` is hallucinated; duplicates and other false alarms near an object are neither.

    Args:
        truth, boxes: (G, 4) and (P, 4), corners in pixels.
        classes, labels: (G,) and (P,).
        scores: (P,) in [0, 1].
        ignored: (I, 4), objects that need not be found.

    Returns:
        (outcome of each object, number of hallucinated predictions)
    """
    keep = scores >= score
    order = np.argsort(-scores[keep], kind='stable')
    boxes, labels = boxes[keep][order], labels[keep][order]
    overlap = _overlaps(boxes, truth)
    same = labels[:, None] == classes[None]
    outcome = [VANISHED] * len(truth)
    unused = np.ones(len(boxes), bool)
    for name, allowed in (
        (FOUND, same & (overlap >= iou)),
        (MISCLASSIFIED, ~same & (overlap >= iou)),
        (MISLOCATED, same & (overlap >= near)),
    ):
        for p in np.flatnonzero(unused):
            options = [g for g in np.flatnonzero(allowed[p]) if outcome[g] == VANISHED]
            if options:
                outcome[max(options, key=lambda g: overlap[p, g])] = name
                unused[p] = False
    everything = truth if ignored is None else np.concatenate([truth, ignored])
    alone = (_overlaps(boxes, everything) < near).all(1)
    return outcome, int(alone.sum())


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4) -> (N, M)."""
    return box_iou(*(torch.from_numpy(x.reshape(-1, 4).astype(np.float64)) for x in (a, b))).numpy()


@METRICS.register_module()
class ObjectOutcomeMetric(BaseMetric):
    """Counts of :func:`object_outcomes` over a data set, and of each image in ``per_image``.

    Args:
        score (float): predictions below it count as not made. Default: 0.3, where mmdet draws boxes.
        iou, near (float): overlaps that count as found, and as near.
    """

    default_prefix = 'objects'

    def __init__(self, score: float = 0.3, iou: float = 0.5, near: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        self.thresholds = {'score': score, 'iou': iou, 'near': near}
        self.per_image: dict = {}

    def process(self, data_batch, data_samples) -> None:
        for sample in data_samples:
            truth, predicted = sample['gt_instances'], sample['pred_instances']
            ignored = sample.get('ignored_instances')
            result = object_outcomes(
                _array(truth['bboxes']),
                _array(truth['labels']),
                _array(predicted['bboxes']),
                _array(predicted['labels']),
                _array(predicted['scores']),
                None if ignored is None else _array(ignored['bboxes']),
                **self.thresholds,
            )
            self.results.append((sample['img_id'], *result))

    def compute_metrics(self, results: list) -> dict[str, int]:
        self.per_image = {image: (outcomes, alone) for image, outcomes, alone in results}
        counts = Counter(outcome for outcomes, _ in self.per_image.values() for outcome in outcomes)
        return {
            **{name: counts[name] for name in OUTCOMES},
            HALLUCINATED: sum(alone for _, alone in self.per_image.values()),
        }


def changes(clean: Mapping, attacked: Mapping) -> dict[str, int]:
    """What an attack did to the objects that were found without it.

    Args:
        clean, attacked: ``per_image`` of two evaluations of the same images.

    Returns:
        ``objects`` found without the attack, how many of them are still found and what became of the others, and how
        many more predictions are hallucinated than before (fewer, if negative).
    """
    fates = Counter()
    for image, (before, _) in clean.items():
        fates.update(new for old, new in zip(before, attacked[image][0], strict=True) if old == FOUND)
    alone = [sum(count for _, count in run.values()) for run in (clean, attacked)]
    return {'objects': fates.total(), **{name: fates[name] for name in OUTCOMES}, HALLUCINATED: alone[1] - alone[0]}


def _array(values) -> np.ndarray:
    values = getattr(values, 'tensor', values)  # mmdet's box types
    return values.detach().cpu().numpy() if hasattr(values, 'detach') else np.asarray(values)
