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

    name = 'mIoU'

    def __init__(self, records: Sequence[Mapping], classes: Sequence[str] | None = None):
        self.intersect, self.union = (np.array([r[key] for r in records], np.float64) for key in ('intersect', 'union'))
        self.sizes = np.array([record['sizes'] for record in records], np.float64)  # (N, 3, 2)
        self.labelled = np.array([record['labelled'] for record in records], np.float64)
        self.classes = classes or [str(i) for i in range(self.intersect.shape[1])]

    @staticmethod
    def record(prediction, truth, classes: int) -> dict:
        """Pixels of each class in the intersection and the union, labelled ones, and right and all ones by size."""
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
            'labelled': int(area.sum()),
            'sizes': _recall_by_size(predicted.numpy(), label.numpy(), classes),
        }

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

    name = 'AP50'

    def __init__(self, records: Sequence[Mapping], classes: Sequence[str] | None = None):
        self.count = len(records)
        labels = [label for record in records for label in (*record['labels'], *record['classes'])]
        self.classes = classes or [str(i) for i in range(max(labels, default=0) + 1)]
        self.curves = _matches(records, len(self.classes))
        self.false_scores = np.array([sum(record['false']) for record in records])

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


def class_count(model) -> int:
    """Number of classes of a segmentor, or of a detector with one or two stages."""
    for path in (('num_classes',), ('bbox_head', 'num_classes'), ('roi_head', 'bbox_head', 'num_classes')):
        part = model
        for name in path:
            part = getattr(part, name, None)
            if isinstance(part, torch.nn.ModuleList):  # cascades
                part = part[-1]
        if part is not None:
            return part
    raise TypeError(f'{type(model).__name__} tells no number of classes: it is no segmentor or detector of boxes')


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
    """The detections of one class and size, by falling score."""

    def __init__(self, images: Sequence[tuple[int, Mapping]], count: int):
        scores = np.concatenate([image['dtScores'][:100] for _, image in images] or [[]])
        order = np.argsort(-scores, kind='mergesort')
        self.image = np.concatenate([[i] * len(image['dtScores'][:100]) for i, image in images] or [[]])
        self.image = self.image[order].astype(int)
        if images:
            matched = np.concatenate([image['dtMatches'] > 0 for _, image in images], 1)[:, order]
            counted = ~np.concatenate([image['dtIgnore'].astype(bool) for _, image in images], 1)[:, order]
        else:
            matched = counted = np.zeros((len(_overlaps()), 0), bool)
        self.right, self.wrong = matched & counted, ~matched & counted  # (T, D)
        self.objects = np.zeros(count)
        for i, image in images:
            self.objects[i] = (np.asarray(image['gtIgnore']) == 0).sum()

    def average_precision(self, weights: np.ndarray, overlaps: int) -> np.ndarray:
        """(B, N) -> (B, T) of the first T overlaps; NaN where there are no objects."""
        result = np.full((len(weights), overlaps), np.nan)
        for b, (w, objects) in enumerate(zip(weights, weights @ self.objects, strict=True)):
            if not objects:
                continue
            seen = w[self.image] > 0
            shares = w[self.image[seen]]
            right, wrong = (np.cumsum(kind[:overlaps, seen] * shares, 1) for kind in (self.right, self.wrong))
            precision = right / np.maximum(right + wrong, np.spacing(1))
            precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]  # the best at this recall or a higher one
            for t, (recall, height) in enumerate(zip(right / objects, precision, strict=True)):
                places = np.searchsorted(recall, np.linspace(0, 1, 101), side='left')
                result[b, t] = np.append(height, 0.0)[places].mean()
        return result


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
            _Curve([(i, image) for i, image in enumerate(grid[k, s]) if image is not None], len(records))
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
