"""The data sets of ``configs/_base_/datasets`` that have no class of their own, from folders as they are published.

Models are trained and tested on them in ``test_docs.py``.
"""

import pytest
from conftest import REPO
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from test_data.published import IGNORED, SIZE, make_published

#: The scope and the number of classes of each.
SETS = {
    'fmb': ('mmseg', 14),
    'pst900': ('mmseg', 5),
    'llvip': ('mmdet', 1),
    'flir': ('mmdet', 3),
    'kaist': ('mmdet', 1),
}
TEXTS = [
    ('sanitized_annotations', '*_*_*'),
    ('annotations_paired', '*/*/visible/*'),
    ('annotations_paired', '*/*/lwir/*'),
]


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder with all of them under ``data``, to stand in."""
    folder = tmp_path_factory.mktemp('published')
    make_published(folder / 'data')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def data_config(name: str) -> Config:
    init_default_scope(SETS[name][0])
    return Config.fromfile(REPO / f'configs/_base_/datasets/{name}.py')


@pytest.mark.parametrize('name', SETS)
def test_every_pair_is_found_with_its_labels(workplace, said, name):
    config = data_config(name)
    for split, size in (('train', 8), ('val', 4), ('test', 4)):
        dataset = DATASETS.build(config[f'{split}_dataloader'].dataset)
        assert len(dataset) == size
        assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == SETS[name][1]
        samples = {dataset.get_data_info(i)['img_path'] for i in range(size)}
        assert len(samples) == size
        item = dataset[0]
        assert item['inputs'].shape[0] == 4
        if SETS[name][0] == 'mmseg':
            labels = item['data_samples'].gt_sem_seg.data
            assert set(labels.unique().tolist()) <= {*range(SETS[name][1]), 255}
            assert (labels == 255).any() == (name == 'fmb'), 'zero in FMB is nothing'
        if split != 'train':
            resized = {'llvip': (853, 1280), 'flir': (427, 640), 'kaist': (427, 640)}
            assert tuple(item['inputs'].shape[1:]) == resized.get(name, SIZE)
    unused = [text for text in said('WARNING') if 'not used' in text or 'not read' in text]
    assert not unused, 'nothing is amiss in a folder as published'


def test_kaists_other_persons_are_ignored_and_counted(workplace, said):
    dataset = DATASETS.build(data_config('kaist').train_dataloader.dataset)
    assert dataset.get_data_info(0)['img_id'] == 'set00/V000/I00001'
    for i in range(len(dataset)):
        instances = dataset.get_data_info(i)['instances']
        others = [instance for instance in instances if instance['ignore_flag']]
        assert [instance['bbox'] for instance in others] == [[5, 6, 25, 18]] * len(IGNORED)
        assert {instance['bbox_label'] for instance in instances} == {0}
    for name in IGNORED:
        assert any(text.endswith(f'boxes ignored: {name}, as person') and ' 8 of ' in text for text in said('INFO'))
    samples = dataset[0]['data_samples']
    assert len(samples.ignored_instances) == len(IGNORED)


@pytest.mark.parametrize(('folder', 'name'), TEXTS, ids=str)
def test_kaists_texts_say_what_its_xml_says(workplace, folder, name):
    config = data_config('kaist').train_dataloader.dataset
    xml = DATASETS.build(config)
    config.data_prefix.update(xml_path=None, txt_path=folder)
    config.names.pop('xml_path')
    config.names.txt_path = name
    text = DATASETS.build(config)
    for i in range(8):
        (a, b) = (data.get_data_info(i) for data in (xml, text))
        assert a['instances'] == b['instances']
        assert a['img_path'] == b['img_path']


def test_dogs_are_left_out_of_flir_and_counted(workplace, said):
    dataset = DATASETS.build(data_config('flir').val_dataloader.dataset)
    assert any(
        '4 of ' in text and text.endswith('boxes left out: dog is not in metainfo.classes') for text in said('INFO')
    )
    info = dataset.get_data_info(0)
    assert info['img_id'] == 'FLIR_00009'
    assert info['img_path'].endswith('FLIR_00009_RGB.jpg')
    assert info['ir_path'].endswith('FLIR_00009_PreviewData.jpeg')
