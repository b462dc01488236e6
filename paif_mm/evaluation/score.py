"""One number for predictions, gathered image by image and kept as JSON in between."""

import numpy as np
import torch


class MeanIoU:
    """mIoU of segmentations in percent, mmseg's: the mean over classes that occur, pixels of 255 ignored."""

    name = 'mIoU'

    @staticmethod
    def record(prediction, truth, classes: int) -> list:
        """(intersections, unions) per class."""
        from mmseg.evaluation import IoUMetric

        label = truth.gt_sem_seg.data.squeeze().cpu()
        intersect, union, *_ = IoUMetric.intersect_and_union(
            prediction.pred_sem_seg.data.squeeze().cpu(), label, classes, ignore_index=255
        )
        return [intersect.tolist(), union.tolist()]

    @staticmethod
    def total(records: list) -> float:
        intersect, union = (np.sum(part, axis=0) for part in zip(*records, strict=True))
        occurs = union > 0
        return float((intersect[occurs] / union[occurs]).mean() * 100)


class AP50:
    """Mean average precision of boxes at an overlap of .5, in percent (mmdet's, VOC's area under the curve)."""

    name = 'AP50'

    @staticmethod
    def record(prediction, truth, classes: int) -> dict:
        """Predicted boxes with scores, and true ones, per class."""
        found, there = prediction.pred_instances.cpu(), truth.gt_instances.cpu()
        boxes = torch.cat([_corners(found.bboxes), found.scores[:, None]], 1)
        return {
            'found': [boxes[found.labels == c].tolist() for c in range(classes)],
            'boxes': _corners(there.bboxes).tolist(),
            'labels': there.labels.tolist(),
        }

    @staticmethod
    def total(records: list) -> float:
        from mmdet.evaluation import eval_map

        found = [[np.array(boxes, np.float32).reshape(-1, 5) for boxes in record['found']] for record in records]
        truth = [
            {
                'bboxes': np.array(record['boxes'], np.float32).reshape(-1, 4),
                'labels': np.array(record['labels'], np.int64),
            }
            for record in records
        ]
        return float(eval_map(found, truth, iou_thr=0.5, eval_mode='area', logger='silent', nproc=1)[0]) * 100


def score_of(sample) -> type[MeanIoU] | type[AP50]:
    """The score that suits a data sample's annotations.

    Raises:
        ValueError: it holds neither a segmentation nor boxes.
    """
    for key, score in (('gt_sem_seg', MeanIoU), ('gt_instances', AP50)):
        if key in sample:
            return score
    raise ValueError(
        'the data samples hold neither gt_sem_seg nor gt_instances: add annotations to the pipeline (LoadAnnotations)'
    )


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


def _corners(boxes) -> torch.Tensor:
    return getattr(boxes, 'tensor', boxes)  # mmdet's box types
