"""Loading pairs, checking labels, sparing the infrared image."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from paif_mm.data import LoadPairAnnotations, LoadPairFromFile, PlanarLayout, VisibleOnly

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


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize(
    'view', [np.s_[:], np.s_[:, ::-1], np.s_[::-1], np.s_[5:20, 3:30], np.s_[:, :, ::-1], np.s_[:, :, :2]], ids=str
)
def test_the_planar_layout_keeps_every_value_and_makes_packing_free(view, channels, dtype):
    image = np.dstack([VISIBLE, INFRARED]).astype(dtype)[..., :channels].copy()[view]
    before = image.copy()
    out = PlanarLayout()({'img': image})['img']
    assert out.dtype == dtype
    assert np.array_equal(out, before)
    assert np.array_equal(image, before)
    if view != np.s_[:, :, ::-1]:
        assert out.transpose(2, 0, 1).flags.c_contiguous


@pytest.mark.parametrize('pack', ['mmseg.PackSegInputs', 'mmdet.PackDetInputs', 'mmpretrain.PackInputs'])
def test_packing_copies_nothing_of_an_image_in_planar_layout(pack):
    import mmdet.datasets  # noqa: F401
    import mmpretrain.datasets  # noqa: F401

    results = {'img': np.dstack([VISIBLE, INFRARED]), 'img_id': 1, 'gt_label': 1}
    plain = Compose([{'type': pack}])(dict(results))['inputs']
    for layout in ({'type': 'paif_mm.PlanarLayout'}, {'type': 'paif_mm.VisibleOnly', 'transforms': []}):
        laid_out = Compose([layout])(dict(results))
        packed = Compose([{'type': pack}])(laid_out)['inputs']
        assert np.shares_memory(packed.numpy(), laid_out['img'])
        assert packed.equal(plain)


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


@pytest.mark.parametrize('bad', [[np.nan], [np.inf], [-np.inf], [np.nan, np.inf, -np.inf]], ids=str)
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_infrared_pixels_that_are_not_finite_are_refused(save, dtype, bad):
    kelvin = GENERATOR.uniform(280, 320, (30, 40)).astype(dtype)
    visible, settings = save('vi.png', VISIBLE), {'ir_range': (280, 320)}
    image = load(img_path=visible, ir_path=save('good.tiff', kelvin), settings=settings)
    assert image.dtype == np.float32
    assert np.allclose(image[..., 3], (kelvin - 280) / 40 * 255, atol=1e-2)
    kelvin[3, range(len(bad))] = bad
    with pytest.raises(
        ValueError, match=rf'thermal\.tiff holds {len(bad)} pixel\(s\) of 1200 that are NaN or infinite'
    ):
        load(img_path=visible, ir_path=save('thermal.tiff', kelvin), settings=settings)


@pytest.mark.parametrize('dtype', [np.int8, np.int16, np.int32, np.uint16])
def test_infrared_of_any_integer_type_is_mapped_by_its_range(save, dtype):
    raw = np.linspace(0 if dtype == np.uint16 else -100, 100, 1200).round().astype(dtype).reshape(30, 40)
    paths = {'img_path': save('vi.png', VISIBLE), 'ir_path': save('ir.tiff', raw)}
    with pytest.raises(ValueError, match=r'ir\.tiff is u?int.*declare'):
        load(**paths)
    image = load(**paths, settings={'ir_range': (-50, 50)})
    assert np.allclose(image[..., 3], np.clip((raw.astype(float) + 50) * 2.55, 0, 255), atol=1e-3)


def test_visible_images_of_more_than_8_bits_are_refused(save):
    deep = save('vi.png', VISIBLE.astype(np.uint16) * 16)  # 12 bits in 16: shifted by 8 it would be nearly black
    with pytest.raises(ValueError, match=r'vi\.png is uint16: a visible image must have 8 bits'):
        load(img_path=deep, ir_path=save('ir.png', INFRARED))


def test_a_grey_visible_image_has_three_equal_channels(save):
    image = load(img_path=save('vi.png', VISIBLE[..., 0]), ir_path=save('ir.png', INFRARED))
    assert np.array_equal(image, np.dstack([VISIBLE[..., :1]] * 3 + [INFRARED]))


def save_pillow(folder, name: str, image: np.ndarray, **settings) -> str:
    data = BytesIO()
    rgb = Image.fromarray(image[..., ::-1].copy() if image.ndim == 3 else image)
    (rgb.quantize(256) if settings.pop('palette', False) else rgb).save(data, name.split('.')[1], **settings)
    (folder / name).write_bytes(data.getvalue())
    return str(folder / name)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif


def test_what_a_file_holds_beyond_its_pixels_is_told_once_per_folder(save, tmp_path, said):
    """Alpha, false colours, EXIF's orientation, further pages: not used, and said so."""
    infrared = save('ir.png', INFRARED)
    for i in range(3):
        alpha = save(f'alpha{i}.png', np.dstack([VISIBLE, INFRARED]))
        assert np.array_equal(load(img_path=alpha, ir_path=infrared), np.dstack([VISIBLE, INFRARED]))
    assert [text.split('/')[-1] for text in said('WARNING')] == [
        'alpha0.png has an alpha channel, which is not used: infrared comes from a file of its own '
        '(told once per folder)'
    ]
    more = tmp_path / 'more'
    more.mkdir()
    coloured = np.zeros((30, 40, 3), np.uint8)
    coloured[..., 2] = INFRARED
    for i in range(2):
        cv2.imwrite(str(more / f'hot{i}.png'), coloured)
        load(img_path=alpha, ir_path=str(more / f'hot{i}.png'))
    assert len(said('WARNING')) == 2
    assert 'hot0.png is coloured: its luminance is taken' in said('WARNING')[1]
    smooth = np.dstack([np.linspace(0, 255, 1200).reshape(30, 40)] * 3).astype(np.uint8)
    for name, settings, message in (
        ('a.jpeg', {'exif': turned()}, "EXIF's mark of a turned or mirrored image"),
        (
            'b.tiff',
            {'save_all': True, 'append_images': [Image.new('RGB', (40, 30))]},
            'has 2 pages, of which the first',
        ),
        ('c.png', {'palette': True}, None),
    ):
        folder = tmp_path / name[0]
        folder.mkdir()
        before = len(said('WARNING'))
        image = load(img_path=save_pillow(folder, name, smooth, **settings), ir_path=infrared)
        assert np.abs(image[..., :3].astype(int) - smooth).mean() < 5, 'as stored, not turned'
        assert [message in text for text in said('WARNING')[before:]] == ([True] if message else [])


def test_an_opaque_picture_is_no_pair(save):
    opaque = np.full_like(INFRARED, 255)
    with pytest.raises(ValueError, match=r'pair\.png is an ordinary RGBA picture, opaque everywhere'):
        load(img_path=save('pair.png', np.dstack([VISIBLE, opaque])))
    opaque[17, 5] = 254
    assert load(img_path=save('hot.png', np.dstack([VISIBLE, opaque])))[17, 5, 3] == 254


def test_the_annotated_size_must_be_the_images(save):
    paths = {'img_path': save('vi.png', VISIBLE), 'ir_path': save('ir.png', INFRARED)}
    assert load(**paths, height=30, width=40).shape == (30, 40, 4)
    for size in ({'height': 40, 'width': 30}, {'height': 31}, {'width': 41}):
        with pytest.raises(ValueError, match=r'vi\.png is 30x40 but boxes\.json says .* \(height x width\)'):
            load(**paths, **size, ann_path='boxes.json')


@pytest.mark.parametrize('dtype', [np.uint16, np.int32, np.float32])
def test_labels_are_checked_before_any_cast(save, tmp_path, dtype):
    labels = (INFRARED % 9).astype(dtype)
    if dtype != np.float32:
        assert np.array_equal(annotations(save('fine.tiff', labels))['gt_seg_map'], INFRARED % 9)
        labels[4, 4] = 258  # as 8 bits: 2, a class
    with pytest.raises(ValueError, match=r'deep\.tiff (holds the label value\(s\) 258: expected 0 to 8|is float32)'):
        annotations(save('deep.tiff', labels))
    if dtype == np.int32:
        labels[4, 4] = -1
        with pytest.raises(ValueError, match=r'holds the label value\(s\) -1'):
            annotations(save('negative.tiff', labels))


@pytest.mark.parametrize('seed', range(6))
def test_labels_are_numbered_as_mmseg_numbers_them(save, seed):
    """With a map of classes, with zero taken off, with both: value for value mmseg's own transform."""
    rng = np.random.default_rng(seed)
    reduced, classes = bool(seed % 2), 9
    values = [*range(classes + reduced), 255]
    labels = rng.choice(values, (30, 40)).astype(np.uint8)
    label_map = {i: int(rng.choice([255, 0, 1, 2])) for i in range(classes)} if seed < 4 else None
    info = {'seg_map_path': save('label.png', labels), 'img_path': 'vi.png', 'ori_shape': (30, 40)}
    info |= {'label_map': label_map, 'reduce_zero_label': reduced, 'num_labels': classes}
    ours, theirs = (kind()({**info, 'seg_fields': []}) for kind in (LoadPairAnnotations, LoadPairAnnotations.__base__))
    assert np.array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])
    assert ours['gt_seg_map'].dtype == theirs['gt_seg_map'].dtype
    assert ours['seg_fields'] == theirs['seg_fields']
    with pytest.raises(ValueError, match='reduce_zero_label=.* is set here, but .* in the data set'):
        LoadPairAnnotations(reduce_zero_label=not reduced)({**info, 'seg_fields': []})


def test_labels_of_one_bit_palettes_and_jpeg(tmp_path, save, said):
    ones = (INFRARED > 128).astype(np.uint8)
    Image.fromarray(ones.astype(bool)).save(tmp_path / 'one.png')
    indexed = Image.fromarray(INFRARED % 9, 'P')
    indexed.putpalette(GENERATOR.integers(0, 256, 768, np.uint8).tobytes())
    indexed.save(tmp_path / 'palette.png')
    assert np.array_equal(annotations(str(tmp_path / 'one.png'))['gt_seg_map'], ones)
    assert np.array_equal(annotations(str(tmp_path / 'palette.png'))['gt_seg_map'], INFRARED % 9)
    with pytest.raises(ValueError, match=r'rgba\.png has 4 channels: a label is a grey png'):
        annotations(save('rgba.png', np.dstack([VISIBLE, INFRARED])))
    annotations(save('flat.jpg', np.full((30, 40), 2, np.uint8)))
    assert any('flat.jpg is a JPEG, which changes class numbers' in text for text in said('WARNING'))


def test_visible_only_hands_on_that_a_sample_is_dropped():
    assert VisibleOnly([lambda results: None])({'img': np.dstack([VISIBLE, INFRARED])}) is None
