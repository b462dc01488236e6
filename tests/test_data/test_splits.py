"""Which samples two data sets share, through every wrapper, without a look at an image."""

import cv2
import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.registry import init_default_scope
from test_data.pairs import LAYOUTS, PairCocoDataset, make_set, open_set
from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import Subset

from paif_mm.data import MFNetDataset
from paif_mm.data.splits import sample_keys, shared


def fail(info):
    raise AssertionError('an image was loaded')


@pytest.fixture(params=[*LAYOUTS, PairCocoDataset], ids=lambda kind: kind.__name__)
def dataset(request, tmp_path):
    """Builds the data set of the given ids in a folder of its own, or in one with other ids."""
    init_default_scope('mmdet')

    def build(ids, folder='data', **kwargs):
        root = make_set(tmp_path / folder, request.param, ids)
        return open_set(request.param, root, pipeline=[fail], **kwargs)

    return build


def names(keys):
    return [key.split('/')[-1].split('.')[0] for key in keys]


def test_shared_samples_are_found_by_their_files(dataset):
    first, second = dataset(['a', 'b', 'c']), dataset(['a', 'b', 'c'], indices=[2, 0])
    assert names(sample_keys(first)) == ['a', 'b', 'c']
    assert names(shared(first, second)) == ['a', 'c']
    assert names(shared(second, first)) == ['c', 'a']
    assert shared(first, dataset(['a', 'b'], 'other')) == [], 'the same names in another folder are other samples'
    assert shared(dataset(['a', 'b'], indices=[0]), dataset(['a', 'b'], indices=[1])) == []


def test_wrappers_are_seen_through(dataset):
    data = dataset(['a', 'b', 'c', 'd'])
    data.get_cat_ids = lambda index: [0]
    later = dataset(['a', 'b', 'c', 'd'], lazy_init=True)
    wrapped = {
        'repeated': (RepeatDataset(data, 3), 'abcd'),
        'balanced': (ClassBalancedDataset(data, 0.1), 'abcd'),
        'concatenated': (ConcatDataset([data, dataset(['x'], 'other')]), 'abcdx'),
        'concatenated by torch': (TorchConcatDataset([Subset(data, [1]), data]), 'bacd'),
        'a part': (Subset(data, [3, 1, 1]), 'db'),
        'a part of a part': (Subset(Subset(data, [3, 1]), [1]), 'b'),
        'a part of repetitions': (Subset(RepeatDataset(data, 2), [7, 2]), 'dc'),
        'no sample': (Subset(data, []), ''),
        'mmengine, of its own': (data.get_subset([1, 2]), 'bc'),
        'not yet loaded': (later, 'abcd'),
    }
    for name, (wrapper, expected) in wrapped.items():
        assert ''.join(names(sample_keys(wrapper))) == expected, name
        assert ''.join(names(shared(wrapper, data))) == expected.replace('x', ''), name


def test_links_to_one_file_are_one_sample(dataset, tmp_path):
    data = dataset(['a', 'b'])
    (tmp_path / 'link').symlink_to(tmp_path / 'data')
    assert names(shared(data, dataset(['a', 'b'], 'link'))) == ['a', 'b']


def test_samples_without_a_file_are_told_apart_by_their_id():
    class Ids:
        def __init__(self, *ids):
            self.ids = ids

        def __len__(self):
            return len(self.ids)

        def get_data_info(self, index):
            return {'img_id': self.ids[index]}

    assert shared(Ids(1, 2, 3), Ids(3, 4, 1)) == ['img_id 1', 'img_id 3']
    with pytest.raises(TypeError, match='list has no get_data_info'):
        sample_keys([1, 2])


def test_classes_of_a_sample_are_those_of_its_labels(synthetic_root):
    data = MFNetDataset(data_root=str(synthetic_root), ann_file='train.txt', pipeline=[])
    known = [set(np.unique(cv2.imread(item['seg_map_path'], cv2.IMREAD_UNCHANGED))) - {255} for item in data]
    assert [set(data.get_cat_ids(index)) for index in range(len(data))] == known
    rare = min(range(9), key=lambda label: sum(label in found for found in known) or 99)
    share = sum(rare in found for found in known) / len(known)
    balanced = ClassBalancedDataset(data, oversample_thr=4 * share)
    assert len(balanced) > len(data)
    some = {'classes': ('person', 'car')}
    chosen = MFNetDataset(data_root=str(synthetic_root), metainfo=some, ann_file='train.txt', pipeline=[])
    assert [set(chosen.get_cat_ids(i)) for i in range(len(data))] == [
        {('person', 'car').index({1: 'car', 2: 'person'}[label]) for label in found & {1, 2}} for found in known
    ]
