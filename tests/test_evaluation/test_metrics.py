"""Both conventions of mean IoU, and the table."""

import math

import pytest
import torch

from paif_mm.attacks import Audit
from paif_mm.evaluation import PairIoUMetric
from paif_mm.evaluation.table import attack_table


def evaluate(predicted, label, classes=('unlabeled', 'car', 'person', 'bike')):
    metric = PairIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = {'classes': classes}
    sample = {
        'pred_sem_seg': {'data': torch.tensor(predicted)[None]},
        'gt_sem_seg': {'data': torch.tensor(label)[None]},
    }
    metric.process({}, [sample])
    return metric.evaluate(size=1)


def test_absent_classes_are_left_out_by_mmseg_and_count_zero_in_the_paper():
    """IoU: unlabeled 2/3, car 1/2, person and bike absent; the ignored pixel does not count."""
    metrics = evaluate([[0, 0, 1, 1]], [[0, 0, 0, 1]])
    assert metrics['IoU/unlabeled'] == pytest.approx(66.67)
    assert metrics['IoU/car'] == 50
    assert math.isnan(metrics['IoU/person'])
    assert metrics['mIoU'] == pytest.approx((66.67 + 50) / 2, abs=0.01)
    assert metrics['mIoU_paper'] == pytest.approx((66.67 + 50) / 4, abs=0.01)
    assert evaluate([[0, 0, 1, 1, 2]], [[0, 0, 0, 1, 255]])['mIoU_paper'] == metrics['mIoU_paper']


@pytest.mark.parametrize('folder', [None, 'maps'])
def test_predictions_need_no_labels_unless_they_are_measured(tmp_path, folder):
    sample = {'pred_sem_seg': {'data': torch.tensor([[0, 1]])[None]}, 'img_path': 'a.png'}
    metric = PairIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = {'classes': ('unlabeled', 'car')}
    with pytest.raises(ValueError, match=r'a\.png has no label: .* format_only=True in test_evaluator'):
        metric.process({}, [sample])
    out = folder and str(tmp_path / folder)
    metric = PairIoUMetric(iou_metrics=['mIoU'], format_only=True, output_dir=out)
    metric.dataset_meta = {'classes': ('unlabeled', 'car')}
    metric.process({}, [sample])
    assert metric.evaluate(size=1) == {}
    assert [path.name for path in tmp_path.rglob('*.png')] == (['a.png'] if folder else [])


def test_the_conventions_agree_where_every_class_occurs():
    metrics = evaluate([[0, 1, 2, 3]], [[0, 1, 2, 2]])
    assert metrics['mIoU'] == metrics['mIoU_paper']


def test_the_table_names_conventions_and_what_the_attack_did():
    clean = evaluate([[0, 0, 1, 1]], [[0, 0, 0, 1]])
    audit = Audit(images=2, max_delta={'ir': 4.0, 'vis': 8.0}, before_sum=1.0, after_sum=3.0)
    table = attack_table({'clean': (clean, None), 'pgd5': (clean, audit)})
    for text in (
        'mIoU (mmseg)',
        'mIoU (paper)',
        '58.33',
        '29.17',
        'ir 4.00 vis 8.00',
        '0.500 -> 1.500',
        'absent ones count 0',
    ):
        assert text in table
    row = next(line for line in table.splitlines() if 'clean' in line)
    assert row.count(' - ') == 2, 'absent classes are dashes'
