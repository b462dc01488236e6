"""What a prediction is worth: noted image by image as JSON, and made into the figures of any weighting of the images.

A score packs the records of N images and answers with figures for weights (B, N): all ones for the data set, counts of
a resampling for a bootstrap, zeros for what does not belong to a group. Figures are in percent, NaN where undefined.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch

#: COCO's sizes of objects: names and areas in pixels of the file.
SIZES = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, 1e10)}

Figures = dict[str, np.ndarray]


class MeanIoU:
    """Segmentations.

    * ``mIoU``: mmseg's: mean over the classes that occur, pixels of 255 ignored; ``mIoU_paper``: mean over all classes,
      absent ones count 0.
    * ``aAcc``: accuracy of all pixels.
    * ``IoU/<class>``; ``recall/<size>``: share of right pixels in objects (connected parts of one class, the first
      class aside) of COCO's sizes.

    Args:
        records: of :meth:`record`.
        classes: names.
    """

    name, second = 'mIoU', 'mIoU_paper'

    def __init__(self, records: Sequence[Mapping], classes: Sequence[str] | None = None):
        self.intersect, self.union = (np.array([r[key] for r in records], np.float64) for key in ('intersect', 'union'))
        self.sizes = np.array([record['sizes'] for record in records], np.float64)  # (N, 3, 2)
        self.labelled = np.array([record['labelled'] for record in records], np.float64)
        self.classes = classes or [str(i) for i in range(self.intersect.shape[1])]
        self.count = len(records)

    @classmethod
    def joined(cls, scores: Sequence['MeanIoU']) -> 'MeanIoU':
        """The images of one score after those of another."""
        return scores[0]._of(*(np.concatenate(part) for part in zip(*(s._parts() for s in scores), strict=True)))

    def take(self, places: Sequence[int]) -> 'MeanIoU':
        """The score of some of its images, in this order."""
        return self._of(*(part[places] for part in self._parts()))

    def _parts(self) -> tuple[np.ndarray, ...]:
        return self.intersect, self.union, self.sizes, self.labelled

    def _of(self, *parts: np.ndarray) -> 'MeanIoU':
        other = MeanIoU([], self.classes)
        other.intersect, other.union, other.sizes, other.labelled = parts
        other.count = len(other.labelled)
        return other

    @staticmethod
    def record(prediction, truth, classes: int) -> dict:
        """Pixels of each class in the intersection, the union and the label, labelled ones, right and all by size."""
        from mmseg.evaluation import IoUMetric

        label = truth.gt_sem_seg.data.squeeze(0).cpu()
        predicted = prediction.pred_sem_seg.data.squeeze(0).cpu()
        if predicted.shape != label.shape:
            raise ValueError(
                f'prediction {tuple(predicted.shape)} and label {tuple(label.shape)} differ in size: load annotations '
                'after Resize in the test pipeline, as mmseg does'
            )
        intersect, union, _, area = IoUMetric.intersect_and_union(predicted, label, classes, ignore_index=255)
        return {
            'intersect': intersect.int().tolist(),
            'union': union.int().tolist(),
            'area': area.int().tolist(),
            'labelled': int(area.sum()),
            'sizes': _recall_by_size(predicted.numpy(), label.numpy(), classes),
        }

    @classmethod
    def constant(cls, records: Sequence[Mapping], classes: Sequence[str]) -> tuple['MeanIoU', str]:
        """The score of calling every pixel one class, the one of the highest mIoU, and that class.

        Args:
            records: of any predictions of the images.
            classes: names.
        """
        area = np.array([record['area'] for record in records])  # (N, K)
        answers = []
        for k in range(len(classes)):
            intersect, union = np.zeros_like(area), area.copy()
            intersect[:, k], union[:, k] = area[:, k], area.sum(1)
            answers.append(
                cls(
                    [
                        {'intersect': i, 'union': u, 'labelled': u[k], 'sizes': [[0, 0]] * len(SIZES)}
                        for i, u in zip(intersect, union, strict=True)
                    ],
                    classes,
                )
            )
        values = [answer.value(cls.name, np.ones((1, len(records))))[0] for answer in answers]
        best = int(np.nanargmax(values)) if not np.isnan(values).all() else 0
        return answers[best], classes[best]

    def value(self, name: str, weights: np.ndarray) -> np.ndarray:
        """``'mIoU'`` or ``'mIoU_paper'`` (B,) alone, for weights (B, N)."""
        iou = 100 * _ratio(weights @ self.intersect, weights @ self.union)
        return _mean(iou) if name == 'mIoU' else np.nan_to_num(iou).mean(1)

    def figures(self, weights: np.ndarray) -> Figures:
        """Name -> (B,), for weights (B, N)."""
        intersect, union = weights @ self.intersect, weights @ self.union  # (B, K)
        iou = 100 * _ratio(intersect, union)
        sizes = np.einsum('bn,nsk->bsk', weights, self.sizes)
        return {
            'mIoU': _mean(iou),
            'mIoU_paper': np.nan_to_num(iou).mean(1),
            'aAcc': 100 * _ratio(intersect.sum(1), weights @ self.labelled),
            **{f'IoU/{name}': iou[:, k] for k, name in enumerate(self.classes)},
            **{f'recall/{name}': 100 * _ratio(sizes[:, i, 0], sizes[:, i, 1]) for i, name in enumerate(SIZES)},
        }

    def per_image(self) -> np.ndarray:
        """What each image by itself is worth (N,): accuracy of its pixels, in [0, 1]; NaN without labels."""
        return _ratio(self.intersect.sum(1), self.labelled)


class AveragePrecision:
    """Detections of boxes, as COCO counts (pycocotools' matching, its 101 points of recall).

    * ``AP50``, ``mAP``: at an overlap of .5, and the mean over .5, .55, ..., .95; means over the classes that occur.
    * ``AP50/<class>``, ``AP50/<size>`` (COCO's sizes).

    Args:
        records: of :meth:`record`.
        classes: names.
    """

    name, second = 'AP50', 'mAP'

    def __init__(self, records: Sequence[Mapping], classes: Sequence[str] | None = None):
        self.count = len(records)
        labels = [label for record in records for label in (*record['labels'], *record['classes'])]
        self.classes = classes or [str(i) for i in range(max(labels, default=0) + 1)]
        self.curves = _matches(records, len(self.classes)) if records else {}
        self.false_scores = np.array([sum(record['false']) for record in records])

    @classmethod
    def joined(cls, scores: Sequence['AveragePrecision']) -> 'AveragePrecision':
        """The images of one score after those of another."""
        firsts = np.cumsum([0, *(score.count for score in scores)])
        other = cls([], scores[0].classes)
        other.count = int(firsts[-1])
        other.curves = {
            size: [_Curve.joined(same, firsts) for same in zip(*(score.curves[size] for score in scores), strict=True)]
            for size in scores[0].curves
        }
        other.false_scores = np.concatenate([score.false_scores for score in scores])
        return other

    def take(self, places: Sequence[int]) -> 'AveragePrecision':
        """The score of some of its images, none of them twice, in this order."""
        other = type(self)([], self.classes)
        other.count = len(places)
        other.curves = {size: [curve.take(places) for curve in curves] for size, curves in self.curves.items()}
        other.false_scores = self.false_scores[places]
        return other

    @staticmethod
    def record(prediction, truth, classes: int) -> dict:
        """Boxes (corners in pixels of the file), scores and labels; true boxes and classes; boxes to be ignored."""
        found, there = prediction.pred_instances.cpu(), truth.gt_instances.cpu()
        ignored = truth.get('ignored_instances')
        record = {
            'boxes': _rounded(_corners(found.bboxes), 3),
            'scores': _rounded(found.scores, 6),
            'labels': found.labels.tolist(),
            'truth': _rounded(_corners(there.bboxes), 3),
            'classes': there.labels.tolist(),
            'ignored': [] if ignored is None else _rounded(_corners(ignored.cpu().bboxes), 3),
            'ignored_classes': [] if ignored is None else ignored.labels.tolist(),
        }
        return {**record, 'false': _false_scores(record)}

    def value(self, name: str, weights: np.ndarray) -> np.ndarray:
        """``'AP50'`` or ``'mAP'`` (B,) alone, for weights (B, N)."""
        table = self._table(weights, 'all', overlaps=1 if name == 'AP50' else 10)
        return 100 * _mean(table.reshape(len(weights), -1))

    def with_one_of(self, kept: np.ndarray, options: Sequence[int]) -> np.ndarray:
        """AP50 (A,) of some images (N,) bool together with each of A others in turn."""
        return 100 * _mean(np.stack([curve.with_one_of(kept, np.asarray(options)) for curve in self.curves['all']], 1))

    def figures(self, weights: np.ndarray) -> Figures:
        """Name -> (B,), for weights (B, N)."""
        table = self._table(weights, 'all')  # (B, K, T)
        half = {'all': 100 * table[..., 0]}
        half |= {size: 100 * self._table(weights, size, overlaps=1)[..., 0] for size in SIZES}
        return {
            'AP50': _mean(half['all']),
            'mAP': 100 * _mean(table.reshape(len(weights), -1)),
            **{f'AP50/{name}': half['all'][:, k] for k, name in enumerate(self.classes)},
            **{f'AP50/{size}': _mean(half[size]) for size in SIZES},
        }

    def per_image(self) -> np.ndarray:
        """What each image by itself is worth (N,): its AP50 in [0, 1] (0 without objects); the sum of the scores of
        its false detections decides between equals."""
        ap50 = np.nan_to_num(_mean(self._table(np.eye(self.count), 'all', overlaps=1)[..., 0]))
        return ap50 - 1e-6 * self.false_scores

    def _table(self, weights: np.ndarray, size: str, overlaps: int = 10) -> np.ndarray:
        """Average precision (B, K, T) of the first T overlaps."""
        return np.stack([curve.average_precision(weights, overlaps) for curve in self.curves[size]], 1)


def score_of(sample) -> type[MeanIoU] | type[AveragePrecision]:
    """The score that suits a data sample's annotations.

    Raises:
        ValueError: it holds neither a segmentation nor boxes.
    """
    for key, score in (('gt_instances', AveragePrecision), ('gt_sem_seg', MeanIoU)):  # detectors may have stuff, too
        if key in sample and (key != 'gt_instances' or 'bboxes' in sample.gt_instances):
            return score
    raise ValueError(
        'the data samples hold neither gt_sem_seg nor boxes in gt_instances: add LoadAnnotations to the test pipeline '
        '(with_bbox=True for detectors)'
    )


def total(score: type[MeanIoU] | type[AveragePrecision], records: Sequence[Mapping]) -> float:
    """The leading figure of a data set."""
    return float(score(records).figures(np.ones((1, len(records))))[score.name][0])


def _recall_by_size(predicted: np.ndarray, label: np.ndarray, classes: int) -> list[list[int]]:
    """[right, all] pixels of the objects of each size."""
    counts = [[0, 0] for _ in SIZES]
    right = predicted == label
    for k in range(1, classes):
        if not (label == k).any():
            continue
        _, parts, stats, _ = cv2.connectedComponentsWithStats((label == k).astype(np.uint8))
        hits = np.bincount(parts[right], minlength=len(stats))
        for part in range(1, len(stats)):
            area = stats[part, cv2.CC_STAT_AREA]
            size = next(i for i, (low, high) in enumerate(SIZES.values()) if low <= area < high)
            counts[size][0] += int(hits[part])
            counts[size][1] += int(area)
    return counts


class _Curve:
    """The detections of one class and size, by falling score.

    Args:
        scores (D,), image (D,): of each detection, and where it was found.
        right, wrong: (T, D) at each overlap; neither where it does not count.
        objects: (N,), of each image.
    """

    def __init__(self, scores, image, right: np.ndarray, wrong: np.ndarray, objects: np.ndarray):
        order = np.argsort(-np.asarray(scores), kind='mergesort')
        self.scores, self.image = np.asarray(scores)[order], np.asarray(image)[order].astype(int)
        self.right, self.wrong, self.objects = right[:, order], wrong[:, order], objects

    @classmethod
    def matched(cls, images: Sequence[tuple[int, Mapping]], count: int) -> '_Curve':
        """From what pycocotools found, image by image, of ``count``."""
        scores = np.concatenate([image['dtScores'][:100] for _, image in images] or [[]])
        image_of = np.concatenate([[i] * len(image['dtScores'][:100]) for i, image in images] or [[]])
        if images:
            matched = np.concatenate([image['dtMatches'] > 0 for _, image in images], 1)
            counted = ~np.concatenate([image['dtIgnore'].astype(bool) for _, image in images], 1)
        else:
            matched = counted = np.zeros((len(_overlaps()), 0), bool)
        objects = np.zeros(count)
        for i, image in images:
            objects[i] = (np.asarray(image['gtIgnore']) == 0).sum()
        return cls(scores, image_of, matched & counted, ~matched & counted, objects)

    @classmethod
    def joined(cls, curves: Sequence['_Curve'], firsts: Sequence[int]) -> '_Curve':
        """Of several sets of images, which begin at ``firsts`` then; of equal scores the earlier image comes first."""
        scores, images = (np.concatenate([getattr(c, key) for c in curves]) for key in ('scores', 'image'))
        order = np.lexsort((images, -scores))
        first = np.repeat(firsts[: len(curves)], [len(curve.image) for curve in curves])
        right, wrong = (np.concatenate([getattr(c, key) for c in curves], 1)[:, order] for key in ('right', 'wrong'))
        objects = np.concatenate([curve.objects for curve in curves])
        return cls(scores[order], (images + first)[order], right, wrong, objects)

    def take(self, places: Sequence[int]) -> '_Curve':
        new = np.full(len(self.objects), -1)
        new[places] = np.arange(len(places))
        image = new[self.image]
        seen = image >= 0
        # of equal scores the earlier image comes first, as pycocotools has it
        order = np.flatnonzero(seen)[np.lexsort((image[seen], -self.scores[seen]))]
        return _Curve(
            self.scores[order], image[order], self.right[:, order], self.wrong[:, order], self.objects[list(places)]
        )

    def average_precision(self, weights: np.ndarray, overlaps: int) -> np.ndarray:
        """(B, N) -> (B, T) of the first T overlaps; NaN where there are no objects."""
        result = np.full((len(weights), overlaps), np.nan)
        for b, (w, objects) in enumerate(zip(weights, weights @ self.objects, strict=True)):
            if not objects:
                continue
            seen = w[self.image] > 0
            shares = w[self.image[seen]]
            result[b] = _areas(*(kind[:overlaps, seen] * shares for kind in (self.right, self.wrong)), objects)
        return result

    def with_one_of(self, kept: np.ndarray, options: np.ndarray) -> np.ndarray:
        """Average precision (A,) at the first overlap, of some images (N,) bool and each of A others in turn."""
        place = np.full(len(kept), -1)
        place[options] = np.arange(len(options))
        seen = kept[self.image] | (place[self.image] >= 0)
        image = self.image[seen]
        counted = kept[image] | (place[image] == np.arange(len(options))[:, None])  # (A, D)
        objects = self.objects[kept].sum() + self.objects[options]  # (A,)
        found = _areas(counted & self.right[0, seen], counted & self.wrong[0, seen], np.maximum(objects, 1)[:, None])
        return np.where(objects > 0, found, np.nan)


def _areas(right: np.ndarray, wrong: np.ndarray, objects: np.ndarray | float) -> np.ndarray:
    """Areas (B,) under curves of precision and recall, of weights (B, D) of detections by falling score."""
    right, wrong = np.cumsum(right, 1, dtype=np.float64), np.cumsum(wrong, 1, dtype=np.float64)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]  # the best at this recall or a higher one
    steps = np.linspace(0, 1, 101)
    return np.array(
        [
            np.append(height, 0.0)[np.searchsorted(recall, steps, side='left')].mean()
            for recall, height in zip(right / objects, precision, strict=True)
        ]
    )


def _matches(records: Sequence[Mapping], classes: int) -> dict[str, list[_Curve]]:
    """Size -> the curve of each class, matched by pycocotools."""
    from pycocotools.cocoeval import COCOeval

    truth, found = [], []
    for image, record in enumerate(records):
        for boxes, labels, crowd in (('truth', 'classes', 0), ('ignored', 'ignored_classes', 1)):
            truth += [
                _annotation(image, *item, iscrowd=crowd) for item in zip(record[boxes], record[labels], strict=True)
            ]
        items = zip(record['boxes'], record['labels'], record['scores'], strict=True)
        found += [_annotation(image, box, label, score=score) for box, label, score in items]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*(_coco(items, len(records), classes) for items in (truth, found)), 'bbox')
        evaluation.params.areaRng = [[0, 1e10], *map(list, SIZES.values())]
        evaluation.params.areaRngLbl = ['all', *SIZES]
        evaluation.evaluate()
    grid = np.array(evaluation.evalImgs, dtype=object).reshape(classes, 1 + len(SIZES), len(records))
    return {
        size: [
            _Curve.matched([(i, image) for i, image in enumerate(grid[k, s]) if image is not None], len(records))
            for k in range(classes)
        ]
        for s, size in enumerate(('all', *SIZES))
    }


def _coco(annotations: list[dict], images: int, classes: int):
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        'images': [{'id': i} for i in range(images)],
        'categories': [{'id': k} for k in range(classes)],
        'annotations': [{**item, 'id': i} for i, item in enumerate(annotations, 1)],
    }
    coco.createIndex()
    return coco


def _annotation(image: int, box: Sequence[float], label: int, **more) -> dict:
    x0, y0, x1, y1 = box
    size = x1 - x0, y1 - y0
    return {
        'image_id': image,
        'category_id': label,
        'bbox': [x0, y0, *size],
        'area': size[0] * size[1],
        'iscrowd': 0,
        **more,
    }


def _false_scores(record: Mapping) -> list[float]:
    """Scores of the detections that overlap no object of their class by half."""
    from torchvision.ops import box_iou

    boxes, truth = (torch.tensor(record[key], dtype=torch.float64).view(-1, 4) for key in ('boxes', 'truth'))
    same = torch.tensor(record['labels'])[:, None] == torch.tensor(record['classes'])[None]
    false = ~((box_iou(boxes, truth) >= 0.5) & same).any(1)
    return [score for score, alone in zip(record['scores'], false.tolist(), strict=True) if alone]


def _overlaps() -> np.ndarray:
    return np.linspace(0.5, 0.95, 10)


def _corners(boxes) -> torch.Tensor:
    return getattr(boxes, 'tensor', boxes)  # mmdet's box types


def _rounded(values: torch.Tensor, digits: int) -> list:
    return np.round(values.double().numpy(), digits).tolist()


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, NaN left out; NaN where nothing is left."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(-1), known.sum(-1).astype(np.float64))
