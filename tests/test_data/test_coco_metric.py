"""COCO's figures are of the classes that they name, whatever the order of the annotation file's categories."""

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from test_data.pairs import PREFIX, coco_of, make_set, write_coco

from paif_mm.data import PairCocoDataset
from paif_mm.data.coco_metric import BY_NAME, CocoMetric

NAMES = ('person', 'bicycle', 'car')
IDS = ['a', 'b', 'c', 'd', 'e', 'f']


class Oracle(BaseModel):
    """Predicts the true boxes, and a class made of the true one by a table."""

    table = torch.arange(3)

    def forward(self, inputs, data_samples, mode='predict'):
        for sample in data_samples:
            truth = sample.gt_instances
            sample.pred_instances = InstanceData(
                bboxes=truth.bboxes.tensor, scores=torch.ones(len(truth)), labels=self.table[truth.labels]
            )
        return data_samples


def write(root, order, numbers):
    """Each class has boxes in two images; categories in an order of the file and with ids of their own."""
    content = coco_of([f'{name}.png' for name in IDS])
    for i, box in enumerate(content['annotations']):
        box['category_id'] = numbers[i % 3]
    content['categories'] = [{'id': numbers[i], 'name': NAMES[i]} for i in order]
    write_coco(root, content)


def make_runner(root, classes, ann_file: bool, dataset='paif_mm.PairCocoDataset', prefix=PREFIX) -> Runner:
    """A Runner that tests the oracle with mmdet's CocoMetric, by its name in a config."""
    load = 'paif_mm.LoadPairFromFile' if dataset.startswith('paif_mm') else 'LoadImageFromFile'
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
    pipeline = [
        {'type': load},
        {'type': 'LoadAnnotations', 'with_bbox': True},
        {'type': 'PackDetInputs', 'meta_keys': keys},
    ]
    dataset = {'type': dataset, 'data_root': str(root), 'ann_file': 'boxes.json', 'data_prefix': prefix}
    return Runner(
        model=Oracle(),
        work_dir=str(root / 'work'),
        test_dataloader={
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'pseudo_collate'},
            'dataset': {
                **dataset,
                'test_mode': True,
                'pipeline': pipeline,
                'metainfo': {'classes': classes} if classes else None,
            },
        },
        test_cfg={'type': 'TestLoop'},
        test_evaluator={
            'type': 'CocoMetric',
            'classwise': True,
            **({'ann_file': str(root / 'boxes.json')} if ann_file else {}),
        },
        default_scope='mmdet',
        log_level='ERROR',
        experiment_name=f'{root.name}{np.random.default_rng().integers(2**60)}',
    )


def score(runner: Runner, table) -> dict:
    runner.model.table = torch.tensor(table)
    return runner.test()


ORDERS = [((2, 0, 1), (1, 2, 3)), ((0, 1, 2), (7, 3, 5)), ((1, 2, 0), (2, 9, 4))]


@pytest.mark.parametrize('ann_file', [False, True], ids=['own annotations', 'ann_file'])
@pytest.mark.parametrize(('order', 'numbers'), ORDERS, ids=str)
@pytest.mark.parametrize('classes', [None, NAMES, ('car', 'person', 'bicycle')], ids=str)
def test_perfect_predictions_have_ap_1_and_exchanged_classes_0(tmp_path, order, numbers, classes, ann_file):
    make_set(tmp_path, PairCocoDataset, IDS)
    write(tmp_path, order, numbers)
    runner = make_runner(tmp_path, classes, ann_file)
    assert score(runner, [0, 1, 2])['coco/bbox_mAP'] == 1
    assert score(runner, [1, 2, 0])['coco/bbox_mAP'] == 0
    # the class in place 0 is right, the other two are exchanged: the table must say so by name
    names = classes or [NAMES[i] for i in np.argsort(numbers)]
    figures = score(runner, [0, 2, 1])
    assert {name: figures[f'coco/{name}_precision'] for name in NAMES} == {
        name: float(name == names[0]) for name in NAMES
    }


def test_mmdets_own_data_sets_are_scored_as_before(tmp_path):
    """mmdet's CocoDataset numbers its labels in the order of the file, as mmdet's metric does."""
    make_set(tmp_path, PairCocoDataset, IDS)
    write(tmp_path, (2, 0, 1), (1, 2, 3))
    runner = make_runner(tmp_path, NAMES, True, 'CocoDataset', {'img': 'rgb'})
    for table, value in (([0, 1, 2], 1), ([1, 2, 0], 0)):
        assert score(runner, table)['coco/bbox_mAP'] == value


def test_an_ann_file_without_a_class_is_refused(tmp_path):

    make_set(tmp_path, PairCocoDataset, IDS)
    metric = CocoMetric(ann_file=str(tmp_path / 'boxes.json'))
    metric.dataset_meta = {'classes': ('person', 'dog'), BY_NAME: True}
    with pytest.raises(ValueError, match='has no category dog: it has person, bicycle, car'):
        metric.results2json([{'img_id': 1, 'labels': []}], str(tmp_path / 'x'))
