"""What becomes of objects under attack, in scenes small enough to sort by hand."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from paif_mm.evaluation import ObjectOutcomeMetric, object_outcomes
from paif_mm.evaluation.outcomes import changes
from paif_mm.evaluation.table import attack_table, outcome_table

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
SHIFTED = [4, 0, 14, 10]  # overlaps A by 60 of 140 pixels
FAR = [70, 70, 80, 80]


def outcomes(boxes, labels, scores=None, truth=(A, B), classes=(0, 1), **kwargs):
    scores = np.ones(len(boxes)) if scores is None else np.array(scores)
    truth, boxes = np.array(truth, float), np.array(boxes, float).reshape(-1, 4)
    return object_outcomes(truth, np.array(classes), boxes, np.array(labels), scores, **kwargs)


@pytest.mark.parametrize(
    ('boxes', 'labels', 'expected'),
    [
        ([A, B], [0, 1], (['found', 'found'], 0)),
        ([A, B], [0, 0], (['found', 'misclassified'], 0)),
        ([SHIFTED], [0], (['mislocated', 'vanished'], 0)),
        ([SHIFTED], [1], (['vanished', 'vanished'], 0)),  # elsewhere and something else
        ([A, B, FAR], [0, 1, 1], (['found', 'found'], 1)),
        ([A, A, B], [0, 0, 1], (['found', 'found'], 0)),  # a duplicate is no hallucination
        ([A, A], [1, 0], (['found', 'vanished'], 0)),  # found counts before misclassified, whatever the order
        ([], [], (['vanished', 'vanished'], 0)),
    ],
)
def test_outcomes_by_hand(boxes, labels, expected):
    assert outcomes(boxes, labels) == expected


def test_weak_predictions_do_not_count_and_ignored_objects_are_nobodys_hallucination():
    assert outcomes([A, FAR], [0, 0], scores=[0.2, 0.2])[0] == ['vanished', 'vanished']
    assert outcomes([FAR], [0])[1] == 1
    assert outcomes([FAR], [0], ignored=np.array([FAR]))[1] == 0


def test_one_prediction_finds_one_object():
    assert outcomes([A], [0], truth=(A, A), classes=(0, 0))[0].count('found') == 1


def sample(image, boxes, labels):
    def instances(b, lab, **kwargs):
        return InstanceData(bboxes=torch.tensor(b).float().reshape(-1, 4), labels=torch.tensor(lab).long(), **kwargs)

    predicted = instances(boxes, labels, scores=torch.ones(len(boxes)))
    return {'img_id': image, 'gt_instances': instances([A, B], [0, 1]), 'pred_instances': predicted}


def evaluate(*predictions):
    metric = ObjectOutcomeMetric()
    metric.process({}, [sample(i, *p) for i, p in enumerate(predictions)])
    return metric, metric.evaluate(len(predictions))


def test_metric_counts_over_images_and_changes_compare_two_runs():
    clean, counts = evaluate(([A, B], [0, 1]), ([A], [0]))
    assert counts == {
        'objects/found': 3,
        'objects/misclassified': 0,
        'objects/mislocated': 0,
        'objects/vanished': 1,
        'objects/hallucinated': 0,
    }
    attacked, _ = evaluate(([A, B], [0, 0]), ([FAR, B], [0, 1]))
    fates = changes(clean.per_image, attacked.per_image)
    # found without the attack: A and B of the first image, A of the second
    assert fates == {
        'objects': 3,
        'found': 1,
        'misclassified': 1,
        'mislocated': 0,
        'vanished': 1,
        'hallucinated': 1,
    }
    row = outcome_table({'clean': clean.per_image, 'pgd': attacked.per_image}).splitlines()[3]
    assert [cell.strip() for cell in row.split('|')[1:-1]] == ['pgd', '3', '1', '1', '0', '1', '1']


def test_the_table_shows_detections_in_percent_with_classes_last():
    metrics = {'coco/car_precision': 0.25, 'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_l': -1.0, 'objects/found': 3}
    head, row = (line.split('|')[1:-1] for line in attack_table({'clean': (metrics, None)}).splitlines()[1:4:2])
    assert [cell.strip() for cell in head] == ['test', 'mAP', 'mAP_l', 'AP car', 'max', 'delta', '/255', 'loss']
    assert [cell.strip() for cell in row] == ['clean', '50.00', '-', '25.00', '', '']


def test_where_nothing_is_detected_the_precision_is_zero():
    runs = {'clean': ({'coco/bbox_mAP': 0.5}, None), 'pgd': ({}, None)}
    row = attack_table(runs).splitlines()[4].split('|')
    assert [row[1].strip(), row[2].strip()] == ['pgd', '0.00']
