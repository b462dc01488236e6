"""The data sets of ``configs/_base_/datasets`` that have no class of their own, from folders as they are published.

Models are trained and tested on them in ``test_docs.py``.
"""

import cv2
import pytest
import torch
from conftest import REPO
from helpers import tiny_fcos
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from test_data.published import IGNORED, SIZE, VEHICLES, make_published

from paif_mm.engine.runner import QuietRunner

#: The scope and the number of classes of each.
SETS = {
    'fmb': ('mmseg', 14),
    'pst900': ('mmseg', 5),
    'llvip': ('mmdet', 1),
    'flir': ('mmdet', 3),
    'kaist': ('mmdet', 1),
    'dronevehicle': ('mmdet', 5),
}
UNLABELLED = ('roadscene', 'tno')
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
    init_default_scope(SETS.get(name, ('mmseg',))[0])
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
            resized = {'llvip': (853, 1280), **dict.fromkeys(('flir', 'kaist', 'dronevehicle'), (427, 640))}
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


def infos(name: str) -> list[dict]:
    dataset = DATASETS.build(data_config(name).train_dataloader.dataset)
    names = dataset.metainfo['classes']
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [{**item, 'boxes': [(names[it['bbox_label']], it['bbox']) for it in item['instances']]} for item in items]


def test_dronevehicles_boxes_are_those_within_the_border(workplace, said):
    """Straight or turned, and by whatever spelling: the scenes' own."""
    scenes = {item['img_id'].removeprefix('FLIR_'): item['boxes'] for item in infos('flir')}
    right = {'car': 'car', 'feright car': 'freight car', 'truvk': 'truck'}
    found = infos('dronevehicle')
    assert len(found) == len(scenes) == 8
    for item in found:
        assert (item['height'], item['width']) == SIZE
        expected = [(right[VEHICLES[kind]], box) for kind, box in scenes[item['img_id']]]
        assert [kind for kind, _ in item['boxes']] == [kind for kind, _ in expected]
        for (_, box), (_, other) in zip(item['boxes'], expected, strict=True):
            assert box == pytest.approx(other)
    told = said('INFO')
    assert any(text.endswith('boxes renamed: truvk, to truck') for text in told)
    assert any(text.endswith('boxes left out: * is not in metainfo.classes') and ' 8 of ' in text for text in told)


def test_the_white_border_is_cut_off_both_images(workplace):
    dataset = DATASETS.build(data_config('dronevehicle').val_dataloader.dataset)
    image = dataset.pipeline.transforms[0](dataset.get_data_info(0))['img']
    assert image.shape == (*SIZE, 4)
    assert not (image[[0, -1]] > 250).all()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'aliases': {'truvk': 'trck'}}, "aliases has 'truvk': 'trck'.*truck"),
        ({'aliases': {'car': 'truck'}}, "aliases has 'car'"),
        ({'border': -1}, 'border must be a number of pixels, not -1'),
        ({'border': 150}, 'border=150 leaves nothing of .*jpg, 296x264'),
    ],
    ids=str,
)
def test_mistaken_spellings_and_borders_are_refused(workplace, settings, message):
    config = data_config('dronevehicle').val_dataloader.dataset
    with pytest.raises(ValueError, match=message):
        DATASETS.build({**config, **settings})


@pytest.mark.parametrize('name', UNLABELLED)
def test_pairs_without_labels_are_predicted(workplace, name):
    bases = ('models/segformer_mini', f'datasets/{name}', 'schedules/schedule_400', 'default_runtime')
    path = workplace / f'{name}_config.py'
    path.write_text(f'_base_ = {[f"{REPO}/configs/_base_/{base}.py" for base in bases]}\n')
    config = Config.fromfile(path)
    config.work_dir, config.launcher = f'work_dirs/{name}', 'none'
    config.test_dataloader.num_workers, config.test_dataloader.persistent_workers = 0, False
    config.test_evaluator.output_dir = f'maps/{name}'
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'val_dataloader', 'val_cfg'):
        config.pop(key)
    config.pop('val_evaluator')
    QuietRunner.from_cfg(config).test()
    maps = {file.stem: cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in (workplace / 'maps' / name).iterdir()}
    assert len(maps) == 4
    for number in range(9, 13):
        stem = {'roadscene': f'FLIR_{number:05d}', 'tno': f'{number:02d}'}[name]
        assert maps[stem].shape == (SIZE[0] - 2 * number, SIZE[1] - 3 * number), 'each at its own size'
        assert maps[stem].max() < 9


@pytest.mark.realdata
def test_llvips_own_pairs_are_found_and_predicted(real_data):
    init_default_scope('mmdet')
    config = Config.fromfile(REPO / 'configs/_base_/datasets/llvip.py')
    detector = MODELS.build(tiny_fcos(classes=1)).eval()
    for split in ('train', 'val'):
        settings = config[f'{split}_dataloader'].dataset
        settings.data_root = str(real_data / 'llvip_sample')
        settings.data_prefix.xml_path = None
        settings.pipeline = config.val_dataloader.dataset.pipeline
        settings.update(test_mode=True, filter_cfg=None)
        dataset = DATASETS.build(settings)
        assert len(dataset) == 2
        for i in range(2):
            item = dataset[i]
            assert item['inputs'].shape == (4, 1024, 1280)
            small = {'inputs': [item['inputs'][:, ::8, ::8]], 'data_samples': [item['data_samples']]}
            with torch.no_grad():
                (found,) = detector.test_step(small)
            assert len(found.pred_instances.scores)
