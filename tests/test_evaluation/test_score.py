"""Scores from records of single images, against mmseg's and COCO's own evaluation."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from paif_mm.evaluation.score import AveragePrecision, MeanIoU, total

CLASSES = 4


def segmentation(label, predicted):
    truth = SegDataSample(gt_sem_seg=PixelData(data=torch.as_tensor(label)[None]))
    return SegDataSample(pred_sem_seg=PixelData(data=torch.as_tensor(predicted)[None])), truth


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, (5, 20, 30))
    labels[0, :4] = 255
    labels[1] = 0
    predicted = np.where(rng.random(labels.shape) < 0.6, labels % CLASSES, rng.integers(0, CLASSES, labels.shape))
    return list(zip(labels, predicted, strict=True))


def test_segmentation_figures_are_those_of_the_metric(maps):
    from paif_mm.evaluation import PairIoUMetric

    metric = PairIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = {'classes': [f'c{i}' for i in range(CLASSES)]}
    records = []
    for label, predicted in maps:
        prediction, truth = segmentation(label, predicted)
        records.append(MeanIoU.record(prediction, truth, CLASSES))
        metric.process({}, [{**prediction.to_dict(), **truth.to_dict()}])
    expected = metric.evaluate(len(maps))
    figures = MeanIoU(records, metric.dataset_meta['classes']).figures(np.ones((1, len(maps))))
    for name in ('mIoU', 'mIoU_paper', 'aAcc', 'IoU/c1', 'IoU/c3'):
        assert figures[name][0] == pytest.approx(expected[name], abs=0.006), name


def test_weights_choose_and_repeat_images(maps):
    records = [MeanIoU.record(*segmentation(*item), CLASSES) for item in maps]
    weights = np.array([[0.0, 0, 2, 0, 1]])
    chosen = MeanIoU([records[2], records[2], records[4]]).figures(np.ones((1, 3)))
    for name, value in MeanIoU(records).figures(weights).items():
        np.testing.assert_allclose(value, chosen[name])


def test_accuracy_of_single_images_leaves_out_ignored_pixels(maps):
    records = [MeanIoU.record(*segmentation(*item), CLASSES) for item in maps]
    expected = [(label == predicted)[label != 255].mean() for label, predicted in maps]
    np.testing.assert_allclose(MeanIoU(records).per_image(), expected)
    nothing = MeanIoU.record(*segmentation(np.full((4, 4), 255), np.zeros((4, 4), int)), CLASSES)
    assert np.isnan(MeanIoU([nothing]).per_image()[0])


def test_mean_iou_leaves_out_classes_that_do_not_occur():
    areas = [([2, 0, 0], [4, 0, 1]), ([1, 0, 0], [2, 0, 1])]
    records = [{'intersect': i, 'union': u, 'labelled': 9, 'sizes': [[0, 0]] * 3} for i, u in areas]
    assert total(MeanIoU, records) == pytest.approx(100 * (0.5 + 0) / 2)


def test_recall_counts_objects_by_their_size():
    label = np.zeros((140, 140), int)
    label[:10, :10] = 1  # small
    label[20:60, :40] = 2  # medium, half of it right
    label[:, 60:] = 1  # large
    predicted = label.copy()
    predicted[20:40, :40] = 0
    predicted[:10, :10] = 3
    figures = MeanIoU([MeanIoU.record(*segmentation(label, predicted), CLASSES)]).figures(np.ones((1, 1)))
    assert [figures[f'recall/{size}'][0] for size in ('small', 'medium', 'large')] == [0, 50, 100]


def test_a_label_of_another_size_is_named():
    with pytest.raises(ValueError, match='load annotations after Resize'):
        MeanIoU.record(*segmentation(np.zeros((4, 4), int), np.zeros((5, 4), int)), CLASSES)


def detections(seed: int, images: int = 12):
    """Random objects, and predictions that find most of them, more or less well."""
    from mmdet.structures import DetDataSample

    rng = np.random.default_rng(seed)
    samples = []
    for i in range(images):
        count = rng.integers(0, 6)
        corner, size = rng.random((count, 2)) * 150, rng.random((count, 2)) * 120 + 4
        boxes = np.concatenate([corner, corner + size], 1)
        labels = rng.integers(0, 2 if i else 1, count)
        keep = rng.random(count) < 0.8
        found = boxes[keep] + rng.normal(0, 4, (keep.sum(), 4))
        noise = rng.random((3, 2)) * 150
        found = np.concatenate([found, np.concatenate([noise, noise + 30], 1)])
        found_labels = np.concatenate([labels[keep], rng.integers(0, 3, 3)])
        crowd = np.array([[0.0, 0, 60, 60]]) if i % 3 == 0 else np.zeros((0, 4))
        truth = DetDataSample(
            gt_instances=InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels)),
            ignored_instances=InstanceData(
                bboxes=torch.tensor(crowd), labels=torch.zeros(len(crowd), dtype=torch.long)
            ),
        )
        prediction = DetDataSample(
            pred_instances=InstanceData(
                bboxes=torch.tensor(found),
                labels=torch.tensor(found_labels),
                scores=torch.tensor(rng.random(len(found))),
            )
        )
        samples.append((prediction, truth))
    return samples


def test_detection_figures_are_those_of_coco(tmp_path):
    """Against mmdet's CocoMetric, which sums up with pycocotools' own accumulate and summarize."""
    from mmdet.evaluation import CocoMetric

    samples = detections(0)
    classes = ('a', 'b', 'c')
    metric = CocoMetric(metric='bbox', classwise=True)
    metric.dataset_meta = {'classes': classes}
    for i, (prediction, truth) in enumerate(samples):
        there = truth.gt_instances
        instances = [
            {'bbox': box.tolist(), 'bbox_label': int(label), 'ignore_flag': 0}
            for box, label in zip(there.bboxes, there.labels, strict=True)
        ]
        instances += [
            {'bbox': box.tolist(), 'bbox_label': 0, 'ignore_flag': 1} for box in truth.ignored_instances.bboxes
        ]
        shape = {'img_id': i, 'ori_shape': (300, 300), 'instances': instances}
        metric.process({}, [{**prediction.to_dict(), **shape}])
    expected = metric.evaluate(len(samples))
    records = [AveragePrecision.record(*item, len(classes)) for item in samples]
    figures = AveragePrecision(records, classes).figures(np.ones((1, len(samples))))
    assert 20 < figures['AP50'][0] < 100
    for ours, theirs in (('AP50', 'bbox_mAP_50'), ('mAP', 'bbox_mAP')):
        assert figures[ours][0] / 100 == pytest.approx(expected[f'coco/{theirs}'], abs=6e-4)
    assert np.isnan(figures['AP50/c'][0]), 'a class without objects has no precision'


def test_average_precision_of_resampled_images_counts_them_as_often():
    samples = detections(1)
    records = [AveragePrecision.record(*item, 3) for item in samples]
    counts = np.random.default_rng(0).integers(0, 3, len(records))
    repeated = [record for record, count in zip(records, counts, strict=True) for _ in range(count)]
    expected = AveragePrecision(repeated, 'abc').figures(np.ones((1, len(repeated))))
    found = AveragePrecision(records, 'abc').figures(counts[None].astype(float))
    for name in expected:  # equal scores may be sorted differently: within a hair
        np.testing.assert_allclose(found[name], expected[name], atol=0.5, err_msg=name)


def test_average_precision_by_hand():
    """Two objects; the surest detection is right, the second wrong: AP 1 up to a recall of 1/2, 0 beyond."""
    record = {
        'boxes': [[0, 0, 10, 10], [50, 50, 60, 60]],
        'scores': [0.9, 0.8],
        'labels': [0, 0],
        'truth': [[0, 0, 10, 10], [20, 20, 30, 30]],
        'classes': [0, 0],
        'ignored': [],
        'ignored_classes': [],
        'false': [0.8],
    }
    score = AveragePrecision([record])
    figures = score.figures(np.ones((1, 1)))
    assert figures['AP50'][0] == pytest.approx(100 * 51 / 101)
    assert figures['mAP'][0] == pytest.approx(100 * 51 / 101)
    assert figures['AP50/small'][0] == pytest.approx(100 * 51 / 101)
    assert np.isnan(figures['AP50/large'][0])
    assert score.per_image()[0] == pytest.approx(51 / 101, abs=1e-5)
    assert score.per_image()[0] < AveragePrecision([{**record, 'false': []}]).per_image()[0]


def test_nothing_detected_is_a_precision_of_0():
    from mmdet.structures import DetDataSample

    _, truth = detections(0)[2]
    assert len(truth.gt_instances)
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    record = AveragePrecision.record(DetDataSample(pred_instances=empty), truth, 3)
    assert total(AveragePrecision, [record]) == 0
