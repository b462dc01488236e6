"""MFNet's and MSRS's layouts."""

import cv2
import numpy as np
import pytest
from conftest import REPO
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from paif_mm.data import MFNetDataset, MSRSDataset, PairSegDataset

PIPELINE = [
    {'type': 'paif_mm.LoadPairFromFile'},
    {'type': 'paif_mm.LoadPairAnnotations'},
    {'type': 'PackSegInputs'},
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def msrs(tmp_path):
    for folder in ('vi', 'ir', 'Segmentation_labels'):
        (tmp_path / folder).mkdir()
    for name in ('00001D', '00002N', '00003N'):
        cv2.imwrite(str(tmp_path / 'vi' / f'{name}.jpg'), np.full((8, 10, 3), 50, np.uint8))
        cv2.imwrite(str(tmp_path / 'ir' / f'{name}.png'), np.full((8, 10), 90, np.uint8))
        cv2.imwrite(str(tmp_path / 'Segmentation_labels' / f'{name}.png'), np.full((8, 10), 2, np.uint8))
    return tmp_path


def test_msrs_pairs_files_by_id(msrs):
    dataset = DATASETS.build({'type': 'paif_mm.MSRSDataset', 'data_root': str(msrs), 'pipeline': PIPELINE})
    assert len(dataset) == 3
    item = dataset[1]
    assert item['inputs'].shape == (4, 8, 10)
    assert (item['inputs'][3] == 90).all()
    assert (item['data_samples'].gt_sem_seg.data == 2).all()
    assert dataset.metainfo['classes'][:4] == ('unlabeled', 'car', 'person', 'bike')


def test_lighting_selects_by_the_end_of_the_id(msrs):
    assert len(MSRSDataset(data_root=str(msrs), lighting='day')) == 1
    assert len(MSRSDataset(data_root=str(msrs), lighting='night')) == 2
    with pytest.raises(ValueError, match='dusk'):
        MSRSDataset(data_root=str(msrs), lighting='dusk')


@pytest.mark.parametrize(
    ('missing', 'message'),
    [
        ('ir/00002N.png', 'ir holds no 00002N.*infrared partner of .*00002N.jpg'),
        ('Segmentation_labels/00001D.png', 'label of'),
    ],
)
def test_msrs_missing_partners_are_named(msrs, missing, message):
    (msrs / missing).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        MSRSDataset(data_root=str(msrs))


def test_missing_folders_and_lists_are_named(msrs, synthetic_root):
    with pytest.raises(FileNotFoundError, match='nowhere/vi does not exist: set data_root'):
        MSRSDataset(data_root='nowhere')
    with pytest.raises(FileNotFoundError, match='test_day.txt does not exist'):
        MFNetDataset(data_root=str(synthetic_root), ann_file='test_day.txt')


def test_mfnet_follows_its_list(synthetic_root):
    dataset = MFNetDataset(data_root=str(synthetic_root), ann_file='val.txt', pipeline=PIPELINE)
    listed = (synthetic_root / 'val.txt').read_text().split()
    assert [item['data_samples'].img_path.split('/')[-1][:-4] for item in dataset] == listed
    assert dataset[0]['inputs'].shape == (4, 64, 96)
    night = MFNetDataset(data_root=str(synthetic_root), ann_file='val.txt', lighting='night')
    assert 0 < len(night) < len(listed)


def test_mfnet_listed_but_missing_images_are_named(synthetic_root, tmp_path):
    (tmp_path / 'list.txt').write_text('99999D\n')
    with pytest.raises(FileNotFoundError, match='holds no 99999D.*list.txt'):
        MFNetDataset(data_root=str(synthetic_root), ann_file=str(tmp_path / 'list.txt'))


def test_a_subset_of_the_classes_is_mapped_and_the_rest_ignored(msrs):
    cv2.imwrite(str(msrs / 'Segmentation_labels' / '00001D.png'), np.repeat([[0, 1, 2, 3, 8, 0, 1, 2, 3, 8]], 8, 0))
    dataset = MSRSDataset(data_root=str(msrs), metainfo={'classes': ('unlabeled', 'person')}, pipeline=PIPELINE)
    labels = dataset[0]['data_samples'].gt_sem_seg.data[0, 0]
    assert labels.tolist() == [0, 255, 1, 255, 255] * 2
    assert dataset.metainfo['palette'] == [[0, 0, 0], [64, 64, 0]]


@pytest.mark.parametrize(('name', 'shape'), [('mfnet', (480, 640)), ('synthetic', (96, 128))])
def test_dataset_configs_load_scenes(synthetic_root, name, shape):
    config = Config.fromfile(REPO / f'configs/_base_/datasets/{name}.py')
    assert config.train_dataloader.sampler.type == 'InfiniteSampler'
    for split, size in (('train', shape), ('val', (64, 96)), ('test', (64, 96))):
        loader = config[f'{split}_dataloader']
        assert loader.persistent_workers == (loader.num_workers > 0)
        wanted = {'data_root': str(synthetic_root)}
        if split == 'test':
            wanted['ann_file'] = 'val.txt'
        dataset = DATASETS.build({**loader.dataset, **wanted})
        item = dataset[0]
        assert len(dataset) == (8 if split == 'train' else 4)
        assert item['inputs'].shape[0] == 4
        # resized at random before the crop, which may leave less than the crop size
        assert all(0.4 * a <= b <= a for a, b in zip(size, item['inputs'].shape[1:], strict=True))
        assert item['data_samples'].gt_sem_seg.data.shape[1:] == item['inputs'].shape[1:]


def test_the_msrs_config_loads_both_splits(msrs):
    config = Config.fromfile(REPO / 'configs/_base_/datasets/msrs.py')
    for split in ('train', 'val', 'test'):
        dataset = config[f'{split}_dataloader'].dataset
        assert dataset.data_root == f'data/msrs/{"train" if split == "train" else "val"}'
        assert DATASETS.build({**dataset, 'data_root': str(msrs)})[0]['inputs'].shape[0] == 4


@pytest.mark.realdata
def test_real_folders_hold_what_they_should(real_data):
    for split, count in (('train', 730), ('val', 344)):
        dataset = MSRSDataset(data_root=str(real_data / 'msrs_half' / split), pipeline=PIPELINE)
        assert len(dataset) == count
        assert dataset[count // 2]['inputs'].shape == (4, 240, 320)
    for split, count in (('train', 36), ('val', 18)):
        dataset = MFNetDataset(data_root=str(real_data / 'mfnet_native'), ann_file=f'{split}.txt', pipeline=PIPELINE)
        assert len(dataset) == count
        assert dataset[0]['inputs'].shape == (4, 480, 640)
        days = MFNetDataset(data_root=str(real_data / 'mfnet_native'), ann_file=f'{split}.txt', lighting='day')
        assert 0 < len(days) <= count


def test_own_classes_count_as_the_label_files_do(msrs):
    """Names of another data set: label values are their places, up to the last of them."""
    own = {'classes': ('road', 'sky', 'lamp')}
    dataset = MSRSDataset(data_root=str(msrs), metainfo=own, pipeline=PIPELINE)
    assert (dataset[0]['data_samples'].gt_sem_seg.data == 2).all()
    assert dataset.metainfo['classes'] == own['classes']
    assert len(dataset.metainfo['palette']) == 3
    with pytest.raises(ValueError, match=r'holds the label value\(s\) 2: expected 0 to 1'):
        MSRSDataset(data_root=str(msrs), metainfo={'classes': own['classes'][:2]}, pipeline=PIPELINE)[0]
    reduced = MSRSDataset(data_root=str(msrs), metainfo=own, reduce_zero_label=True, pipeline=PIPELINE)
    assert (reduced[0]['data_samples'].gt_sem_seg.data == 1).all()
    with pytest.raises(ValueError, match='metainfo.classes lamp are not of MSRSDataset, others are'):
        MSRSDataset(data_root=str(msrs), metainfo={'classes': ('car', 'lamp')})
    with pytest.raises(ValueError, match='reduce_zero_label would call a car unlabeled'):
        MSRSDataset(data_root=str(msrs), reduce_zero_label=True)


def own(root, **kwargs):
    """The folder of ``msrs`` as a data set that no class knows."""
    prefix = {'img_path': 'vi', 'ir_path': 'ir', 'seg_map_path': 'Segmentation_labels'}
    prefix.update(kwargs.pop('data_prefix', {}))
    return PairSegDataset(data_root=str(root), data_prefix=prefix, pipeline=PIPELINE, **kwargs)


def test_classes_of_any_folder_are_named_by_config(msrs):
    """C19: as many names as the label files have values."""
    names = tuple('abcde')
    item = own(msrs, metainfo={'classes': names})[0]
    assert (item['data_samples'].gt_sem_seg.data == 2).all()
    reduced = own(msrs, metainfo={'classes': names}, reduce_zero_label=True)[0]
    assert (reduced['data_samples'].gt_sem_seg.data == 1).all()
    with pytest.raises(ValueError, match='PairSegDataset needs the names of the values in the label files'):
        own(msrs)
    with pytest.raises(ValueError, match='reduce_zero_label would call a car background'):
        own(msrs, metainfo={'classes': ('background', 'car', 'x')}, reduce_zero_label=True)


@pytest.mark.parametrize('zero_is_nothing', [False, True])
def test_some_of_own_classes_are_chosen_and_ordered(msrs, zero_is_nothing):
    cv2.imwrite(str(msrs / 'Segmentation_labels' / '00001D.png'), np.repeat([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]], 8, 0))
    names = ('road', 'sky', 'lamp', 'person') if zero_is_nothing else ('none', 'road', 'sky', 'lamp', 'person')
    palette = [[i, i, i] for i in range(len(names))]
    chosen = {'classes': ('person', 'road'), 'palette': palette}
    data = own(msrs, metainfo=chosen, label_classes=names, reduce_zero_label=zero_is_nothing)
    labels = data[0]['data_samples'].gt_sem_seg.data[0, 0]
    assert labels.tolist() == [255, 1, 255, 255, 0] * 2
    assert data.metainfo['classes'] == ('person', 'road')
    assert data.metainfo['palette'] == [palette[names.index('person')], palette[names.index('road')]]
    everything = own(msrs, label_classes=names, reduce_zero_label=zero_is_nothing)
    assert everything.metainfo['classes'] == names
    assert len(everything.metainfo['palette']) == len(names)
    with pytest.raises(
        ValueError, match=r'classes lamb are not of PairSegDataset.*choose from .*did you mean lamp\?.*label_classes'
    ):
        own(msrs, metainfo={'classes': ('lamb',)}, label_classes=names)


def test_label_classes_replace_those_of_a_known_layout(msrs):
    names = ('car', 'road', 'sky')  # which share a name with MFNet's
    data = MSRSDataset(data_root=str(msrs), label_classes=names, pipeline=PIPELINE)
    assert data.metainfo['classes'] == names
    assert (data[0]['data_samples'].gt_sem_seg.data == 2).all()


def test_a_test_set_needs_no_labels(msrs, said):
    """By None, or because the folder does not exist, which is told."""
    (msrs / 'Segmentation_labels').rename(msrs / 'hidden')
    for prefix, told in (({'seg_map_path': None}, False), ({}, True)):
        data = own(msrs, data_prefix=prefix, metainfo={'classes': ('a', 'b')}, test_mode=True)
        assert 'gt_sem_seg' not in data[0]['data_samples']
        assert data[0]['inputs'].shape == (4, 8, 10)
        assert told == any('does not exist: taken as a test set without labels' in text for text in said('WARNING'))
    with pytest.raises(ValueError, match='names no folder of labels, seg_map_path; none is for a test set'):
        own(msrs, data_prefix={'seg_map_path': None}, metainfo={'classes': ('a', 'b')})
    with pytest.raises(FileNotFoundError, match='Segmentation_labels does not exist: set data_root'):
        own(msrs, metainfo={'classes': ('a', 'b')})
