"""Loading pairs, checking labels, sparing the infrared image."""

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope

from paif_mm.data import LoadPairAnnotations, LoadPairFromFile, VisibleOnly

GENERATOR = np.random.default_rng(0)
VISIBLE = GENERATOR.integers(0, 256, (30, 40, 3), np.uint8)
INFRARED = GENERATOR.integers(0, 256, (30, 40), np.uint8)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def save(tmp_path):
    def write(name: str, image: np.ndarray) -> str:
        assert cv2.imwrite(str(tmp_path / name), image)
        return str(tmp_path / name)

    return write


def load(**results):
    settings = results.pop('settings', {})
    return LoadPairFromFile(**settings)(results)['img']


def test_rgba_png_gives_blue_green_red_infrared(save):
    path = save('pair.png', np.dstack([VISIBLE, INFRARED]))
    results = LoadPairFromFile()({'img_path': path})
    assert results['img'].dtype == np.uint8
    assert np.array_equal(results['img'][..., :3], VISIBLE)
    assert np.array_equal(results['img'][..., 3], INFRARED)
    assert results['img_shape'] == results['ori_shape'] == (30, 40)


def test_transparent_pixels_keep_their_colour(save):
    path = save('pair.png', np.dstack([VISIBLE, np.zeros_like(INFRARED)]))
    assert np.array_equal(load(img_path=path)[..., :3], VISIBLE)


@pytest.mark.parametrize('infrared', [INFRARED, np.dstack([INFRARED] * 3)], ids=['grey', 'three equal channels'])
def test_two_files_give_the_same_pair(save, infrared):
    image = load(img_path=save('vi.png', VISIBLE), ir_path=save('ir.png', infrared))
    assert np.array_equal(image, np.dstack([VISIBLE, INFRARED]))


def test_coloured_infrared_becomes_its_luminance(save):
    colour = np.zeros((30, 40, 3), np.uint8)
    colour[..., 2] = 200  # red
    image = load(img_path=save('vi.png', VISIBLE), ir_path=save('ir.png', colour))
    assert (image[..., 3] == round(0.299 * 200)).all()


def test_a_declared_range_maps_16_bit_infrared_to_pixels(save):
    raw = np.array([[0, 7000, 8000, 9000, 65535]], np.uint16)
    paths = {'img_path': save('vi.png', VISIBLE[:1, :5]), 'ir_path': save('ir.png', raw)}
    image = load(**paths, settings={'ir_range': (7000, 9000)})
    assert image.dtype == np.float32
    assert image[0, :, 3].tolist() == [0, 0, 127.5, 255, 255]
    assert np.array_equal(image[..., :3], VISIBLE[:1, :5])
    with pytest.raises(ValueError, match=r'ir.png is uint16.*ir_range'):
        load(**paths)


def test_errors_name_the_files(save, tmp_path):
    visible, infrared = save('vi.png', VISIBLE), save('ir.png', INFRARED)
    (tmp_path / 'broken.png').write_bytes(b'no image')
    (tmp_path / 'empty.png').write_bytes(b'')
    broken, empty, none = (str(tmp_path / name) for name in ('broken.png', 'empty.png', 'none.png'))
    with pytest.raises(FileNotFoundError, match=r'none.png does not exist: the infrared partner of .*vi.png'):
        load(img_path=visible, ir_path=none)
    with pytest.raises(FileNotFoundError, match=r'none.png does not exist: the image'):
        load(img_path=none, ir_path=infrared)
    with pytest.raises(ValueError, match=r'vi.png is 30x40 but its infrared partner .*small.png is 15x40'):
        load(img_path=visible, ir_path=save('small.png', INFRARED[::2]))
    for path in (broken, empty):
        with pytest.raises(ValueError, match=f'{path} cannot be read'):
            load(img_path=visible, ir_path=path)
    with pytest.raises(ValueError, match=r'vi.png has 3 channel\(s\) but no infrared one'):
        load(img_path=visible)
    deep = save('deep.png', np.full((4, 4, 4), 500, np.uint16))
    for settings in ({}, {'ir_range': (0, 65535)}):
        with pytest.raises(ValueError, match='deep.png is uint16: an RGBA pair must have 8 bits'):
            load(img_path=deep, settings=settings)
    with pytest.raises(ValueError, match='low < high'):
        LoadPairFromFile(ir_range=(5, 5))


GEOMETRIC = [
    {'type': 'Resize', 'scale': (80, 45), 'keep_ratio': False},
    {'type': 'RandomResize', 'scale': (80, 60), 'ratio_range': (0.5, 2.0), 'keep_ratio': True},
    {'type': 'RandomFlip', 'prob': 1.0},
    {'type': 'RandomFlip', 'prob': 1.0, 'direction': 'vertical'},
    {'type': 'RandomCrop', 'crop_size': (16, 24)},
    {'type': 'RandomRotate', 'prob': 1.0, 'degree': 30},
    {'type': 'mmdet.Resize', 'scale': (60, 60), 'keep_ratio': True},
    {'type': 'mmdet.RandomCrop', 'crop_size': (16, 24)},
    {'type': 'mmcv.Pad', 'size': (50, 60)},
    {'type': 'mmcv.Pad', 'size_divisor': 16, 'pad_val': {'img': (7, 7, 7, 7), 'seg': 255}},
]


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('transform', GEOMETRIC, ids=lambda t: f'{t["type"]} {t.get("direction", "")}')
def test_geometric_transforms_move_both_modalities_alike(transform, dtype):
    """The infrared channel holds the visible green: after any transform it still must, and it must have changed."""
    import mmdet.datasets  # noqa: F401

    smooth = cv2.GaussianBlur(VISIBLE, (0, 0), 2).astype(dtype)
    pair = np.dstack([smooth, smooth[..., 1]])
    results = {'img': pair, 'img_shape': (30, 40), 'ori_shape': (30, 40), 'gt_seg_map': INFRARED % 9}
    results['seg_fields'] = ['gt_seg_map']
    out = Compose([transform])(results)['img']
    assert out.dtype == dtype
    assert out.shape[2] == 4
    assert np.array_equal(out[..., 3], out[..., 1])
    assert out.shape != pair.shape or not np.array_equal(out, pair)


PIPELINE = [
    {'type': 'paif_mm.LoadPairFromFile'},
    {'type': 'Resize', 'scale': (120, 90)},
    {'type': 'RandomFlip', 'prob': 1.0},
    {'type': 'RandomCrop', 'crop_size': (70, 80)},
]


def test_a_marker_stays_at_one_place_in_both_modalities(save):
    """A bright square at the same place of two dark files, with its label, ends at the same place of the pair."""
    visible, infrared, label = (
        np.zeros((30, 40, 3), np.uint8),
        np.zeros((30, 40), np.uint8),
        np.zeros((30, 40), np.uint8),
    )
    for image, value in ((visible, 250), (infrared, 200), (label, 2)):
        image[12:18, 15:24] = value
    paths = {'img_path': save('vi.png', visible), 'ir_path': save('ir.png', infrared)}
    label = {'seg_map_path': save('label.png', label), 'num_labels': 9, 'reduce_zero_label': False, 'seg_fields': []}
    pipeline = Compose([PIPELINE[0], {'type': 'paif_mm.LoadPairAnnotations'}, *PIPELINE[1:]])
    results = pipeline({**paths, **label})
    masks = [results['img'][..., 1] > 125, results['img'][..., 3] > 100, results['gt_seg_map'] == 2]
    centres = [np.argwhere(mask).mean(0) for mask in masks]
    assert np.array_equal(masks[0], masks[1])
    assert np.abs(centres[0] - centres[2]).max() < 2
    assert masks[0].sum() == pytest.approx(9 * 6 * 9, rel=0.1)
    assert np.abs(centres[0] - [14.5, 19]).max() > 5, 'the marker must have moved'


@pytest.mark.parametrize(
    ('pack', 'extra'),
    [('mmseg.PackSegInputs', {}), ('mmdet.PackDetInputs', {'img_id': 1}), ('mmpretrain.PackInputs', {'gt_label': 1})],
)
def test_every_library_packs_pairs(save, pack, extra):
    import mmdet.datasets  # noqa: F401
    import mmpretrain.datasets  # noqa: F401

    paths = {'img_path': save('vi.png', VISIBLE), 'ir_path': save('ir.png', INFRARED)}
    for photometric in ([], [{'type': 'paif_mm.VisibleOnly', 'transforms': []}]):
        packed = Compose([PIPELINE[0], *photometric, {'type': pack}])({**paths, **extra})
        assert packed['inputs'].shape == (4, 30, 40)
        assert packed['inputs'].is_contiguous()
        assert np.array_equal(packed['inputs'].numpy().transpose(1, 2, 0), np.dstack([VISIBLE, INFRARED]))
        assert packed['data_samples'].ori_shape == (30, 40)
    moved = Compose([*PIPELINE, {'type': pack}])({**paths, **extra})
    assert moved['inputs'].shape == (4, 70, 80)
    assert moved['data_samples'].img_shape == (70, 80)


def test_visible_only_spares_the_infrared_image_bit_for_bit():
    transform = VisibleOnly([{'type': 'PhotoMetricDistortion'}])
    pair = np.dstack([VISIBLE, INFRARED])
    changed = 0
    for _ in range(10):
        out = transform({'img': pair})['img']
        assert out.dtype == np.uint8
        assert np.array_equal(out[..., 3], INFRARED)
        changed += not np.array_equal(out[..., :3], VISIBLE)
    assert changed >= 5
    assert np.array_equal(pair, np.dstack([VISIBLE, INFRARED])), 'the input itself must not change'
    precise = pair.astype(np.float32) + 0.25
    assert np.array_equal(transform({'img': precise})['img'][..., 3], precise[..., 3])


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('view', [np.s_[:, ::-1], np.s_[::-1], np.s_[5:20, 3:30], np.s_[:, :, ::-1]], ids=str)
def test_visible_only_takes_flipped_and_cropped_views(view, dtype):
    pair = np.dstack([VISIBLE, INFRARED]).astype(dtype)[view]
    out = VisibleOnly([])({'img': pair})['img']
    assert out.dtype == dtype
    assert np.array_equal(out, pair)


def test_visible_only_brings_values_back_into_range():
    """mmdet's distortion returns floats beyond [0, 255]; as uint8 they must saturate, not wrap around."""
    import mmdet.datasets  # noqa: F401

    transform = VisibleOnly(
        [{'type': 'mmdet.PhotoMetricDistortion', 'brightness_delta': 0, 'contrast_range': (1.5, 1.5)}]
    )
    pair = np.full((4, 5, 4), 240, np.uint8)
    for image in (pair, pair.astype(np.float32)):
        values = {tuple(transform({'img': image})['img'][0, 0].tolist()) for _ in range(20)}
        assert values == {(240, 240, 240, 240), (255, 255, 255, 240)}


@pytest.mark.parametrize(
    'transform',
    [
        {'type': 'Resize', 'scale': (20, 20)},
        {'type': 'RandomFlip', 'prob': 1.0},
        {'type': 'RandomRotate', 'prob': 1.0, 'degree': (20, 30)},
    ],
    ids=lambda t: t['type'],
)
def test_visible_only_refuses_geometric_transforms(transform):
    results = {'img': np.dstack([VISIBLE, INFRARED]), 'gt_seg_map': INFRARED % 9, 'seg_fields': ['gt_seg_map']}
    with pytest.raises(ValueError, match='belong outside'):
        VisibleOnly([transform])(results)


def annotations(path: str, shape=(30, 40)):
    results = {'seg_map_path': path, 'img_path': 'vi.png', 'ori_shape': shape, 'num_labels': 9}
    return LoadPairAnnotations()({**results, 'reduce_zero_label': False, 'seg_fields': []})


def test_labels_are_checked(save):
    labels = INFRARED % 9
    labels[0] = 255
    assert np.array_equal(annotations(save('label.png', labels))['gt_seg_map'], labels)
    labels[1, 1], labels[2, 2] = 9, 200
    with pytest.raises(ValueError, match=r'wrong.png holds the label value\(s\) 9, 200: expected 0 to 8'):
        annotations(save('wrong.png', labels))
    with pytest.raises(ValueError, match=r'label.png is 30x40 .*vi.png is 60x80'):
        annotations(save('label.png', INFRARED % 9), shape=(60, 80))
    with pytest.raises(FileNotFoundError, match=r'none.png does not exist: the label of vi.png'):
        annotations('none.png')
    with pytest.raises(ValueError, match=r'colour.png has 3 channels'):
        annotations(save('colour.png', VISIBLE))


@pytest.mark.parametrize(
    'damage',
    [lambda data: b'', lambda data: b'no image', lambda data: data[: len(data) // 2]],
    ids=['empty', 'no image', 'cut off'],
)
def test_damaged_labels_are_named(save, tmp_path, damage):
    save('label.png', INFRARED % 9)
    (tmp_path / 'damaged.png').write_bytes(damage((tmp_path / 'label.png').read_bytes()))
    with pytest.raises(ValueError, match=r'damaged.png cannot be read'):
        annotations(str(tmp_path / 'damaged.png'))
