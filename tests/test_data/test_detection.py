"""Detection data sets of pairs: what they read, and how they refuse what they cannot mean."""

import json

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from paif_mm.data import M3FDDataset, PairCocoDataset
from paif_mm.data.synthetic import BOXED, make_synthetic, render_scene

XML = '<annotation><size><width>40</width><height>30</height></size>{}</annotation>'
OBJECT = '<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


def write_image(path, channels=3, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((30, 40, channels), value, np.uint8).squeeze())


@pytest.fixture
def m3fd(tmp_path):
    """Two pairs in M3FD's layout."""
    for name, objects in (('a', OBJECT.format('Car', 1, 2, 40, 30)), ('b', '')):
        write_image(tmp_path / 'Vis' / f'{name}.png')
        write_image(tmp_path / 'Ir' / f'{name}.png', channels=1, value=9)
        (tmp_path / 'Annotation').mkdir(exist_ok=True)
        (tmp_path / 'Annotation' / f'{name}.xml').write_text(XML.format(objects))
    (tmp_path / 'train.txt').write_text('a\n')
    return tmp_path


PIPELINE = [
    {'type': 'paif_mm.LoadPairFromFile'},
    {'type': 'LoadAnnotations', 'with_bbox': True},
    {'type': 'RandomFlip', 'prob': 1.0},
    {'type': 'PackDetInputs', 'meta_keys': ()},
]


def test_m3fd_pairs_and_boxes_move_together(m3fd):
    dataset = M3FDDataset(data_root=str(m3fd), ann_file='train.txt', pipeline=PIPELINE)
    assert len(dataset) == 1
    item = dataset[0]
    assert item['inputs'].shape == (4, 30, 40)
    assert item['inputs'][:3].unique().tolist() == [7]
    assert item['inputs'][3].unique().tolist() == [9]
    truth = item['data_samples'].gt_instances
    assert truth.labels.tolist() == [M3FDDataset.METAINFO['classes'].index('Car')]
    assert truth.bboxes.tensor.tolist() == [[1, 1, 40, 29]]  # VOC counts from 1; flipped: 40 - 39, 40 - 0


def test_m3fd_without_a_list_takes_every_pair(m3fd):
    assert len(M3FDDataset(data_root=str(m3fd), pipeline=PIPELINE)) == 2


@pytest.mark.parametrize(
    ('damage', 'error', 'message'),
    [
        (
            lambda root: (root / 'Ir' / 'a.png').unlink(),
            FileNotFoundError,
            r'Ir holds no a \(.*\): the infrared partner of .*train\.txt',
        ),
        (lambda root: (root / 'train.txt').unlink(), FileNotFoundError, 'train.txt does not exist'),
        (lambda root: (root / 'Annotation' / 'a.xml').write_text('<annotation'), ValueError, r'a\.xml cannot be read'),
        (
            lambda root: (root / 'Annotation' / 'a.xml').write_text(XML.format(OBJECT.format('Dog', 1, 2, 3, 4))),
            ValueError,
            r"a\.xml names the class 'Dog': known are People",
        ),
        (
            lambda root: (root / 'Annotation' / 'a.xml').write_text(XML.format(OBJECT.format('Car', 1, 2, 60, 4))),
            ValueError,
            r'a\.xml: object 1 \(Car\): the box \(0, 1, 59, 3\) lies outside its image of 40x30',
        ),
    ],
)
def test_m3fd_names_what_is_wrong(m3fd, damage, error, message):
    damage(m3fd)
    with pytest.raises(error, match=message):
        M3FDDataset(data_root=str(m3fd), ann_file='train.txt', pipeline=PIPELINE)


def test_boxes_can_be_clipped_instead(m3fd):
    (m3fd / 'Annotation' / 'a.xml').write_text(XML.format(OBJECT.format('Car', 1, 2, 60, 4)))
    dataset = M3FDDataset(data_root=str(m3fd), ann_file='train.txt', clip_boxes=True, pipeline=PIPELINE)
    assert dataset.get_data_info(0)['instances'][0]['bbox'] == [0, 1, 40, 3]


def test_a_subset_of_the_classes_leaves_the_others_out(m3fd):
    dataset = M3FDDataset(data_root=str(m3fd), metainfo={'classes': ('People',)}, pipeline=PIPELINE)
    assert all(not dataset.get_data_info(i)['instances'] for i in range(2))


@pytest.fixture
def coco(tmp_path):
    """One pair whose infrared file has another name, with a box of each of two categories."""
    write_image(tmp_path / 'rgb' / '1_RGB.jpg')
    write_image(tmp_path / 'thermal' / '1_IR.jpg', channels=1, value=9)
    content = {
        'images': [{'id': 1, 'file_name': '1_RGB.jpg', 'width': 40, 'height': 30}],
        'categories': [{'id': 3, 'name': 'car'}, {'id': 1, 'name': 'person'}],
        'annotations': [
            {'id': i, 'image_id': 1, 'category_id': c, 'bbox': [4, 5, 10, 12], 'area': 120, 'iscrowd': 0}
            for i, c in ((1, 1), (2, 3))
        ],
    }
    (tmp_path / 'boxes.json').write_text(json.dumps(content))
    return tmp_path, content


def load(root, **kwargs):
    return PairCocoDataset(
        data_root=str(root),
        ann_file='boxes.json',
        data_prefix={'img': 'rgb', 'ir': 'thermal'},
        ir_name=('_RGB', '_IR'),
        pipeline=PIPELINE[:1],
        **kwargs,
    )


def test_coco_pairs_with_names_of_their_own(coco):
    dataset = load(coco[0])
    assert dataset.metainfo['classes'] == ('person', 'car')  # by ascending id
    assert len(dataset.metainfo['palette']) == 2
    info = dataset.get_data_info(0)
    assert [i['bbox_label'] for i in info['instances']] == [0, 1]
    assert info['instances'][0]['bbox'] == [4, 5, 14, 17]
    assert dataset[0]['img'][0, 0].tolist() == [7, 7, 7, 9]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda c: c['annotations'][0].update(category_id=9),
            r'boxes\.json: annotation 1 of 1_RGB\.jpg has the unknown category 9',
        ),
        (lambda c: c['annotations'][1].update(bbox=[30, 5, 12, 4]), r'annotation 2 of 1_RGB\.jpg: the box \(30, 5, 42'),
        (lambda c: c['images'][0].update(file_name='2_RGB.jpg'), r'rgb holds no 2_RGB\.jpg, an image listed in'),
    ],
)
def test_coco_names_what_is_wrong(coco, change, message):
    root, content = coco
    change(content)
    (root / 'boxes.json').write_text(json.dumps(content))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(root)


def test_coco_misses_a_partner(coco):
    (coco[0] / 'thermal' / '1_IR.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'thermal holds no 1_IR\.jpg, the infrared partner of 1_RGB\.jpg'):
        load(coco[0])


@pytest.mark.parametrize('classes', [('person', 'car'), ('car', 'person'), ('person',), ('car',)], ids=str)
def test_a_label_is_the_place_of_its_name_whatever_the_files_order(coco, classes):
    root, content = coco
    labels = [classes.index(name) for name in ('person', 'car') if name in classes]  # the file's boxes
    for categories in (content['categories'], content['categories'][::-1]):
        (root / 'boxes.json').write_text(json.dumps({**content, 'categories': categories}))
        dataset = load(root, metainfo={'classes': classes})
        assert [i['bbox_label'] for i in dataset.get_data_info(0)['instances']] == labels
        assert load(root).metainfo['classes'] == ('person', 'car')
    with pytest.raises(ValueError, match=r'boxes\.json has no category dog of metainfo\.classes: it has person, car'):
        load(root, metainfo={'classes': (*classes, 'dog')})


def test_synthetic_boxes_surround_what_is_seen_of_each_object():
    found = 0
    for i in range(20):
        _, label, boxes = render_scene(np.random.default_rng(i), (96, 128), night=False)
        for kind, (x, y, w, h), area in boxes:
            inside = label[y : y + h, x : x + w] == kind
            assert area <= inside.sum()  # another object of the class may be there, too
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            found += 1
        for kind in set(BOXED) - {kind for kind, *_ in boxes}:
            assert (label == kind).sum() < 60  # what has no box is hardly seen
    assert found > 40


def test_synthetic_boxes_are_written_and_added_to_older_folders(tmp_path):
    make_synthetic(tmp_path / 'a', 3, 2, (64, 96), progress=False)
    path = tmp_path / 'a' / 'annotations' / 'instances_train.json'
    before = path.read_bytes()
    path.unlink()
    assert make_synthetic(tmp_path / 'a', 3, 2, (64, 96), progress=False) == 0
    assert path.read_bytes() == before
    dataset = PairCocoDataset(
        data_root=str(tmp_path / 'a'),
        ann_file='annotations/instances_train.json',
        data_prefix={'img': 'images'},
        pipeline=PIPELINE,
    )
    assert dataset.metainfo['classes'] == ('person', 'bicycle', 'car')
    assert len(dataset) == 3
    assert dataset[0]['inputs'].shape == (4, 64, 96)


@pytest.mark.parametrize('seed', range(4))
def test_mmdets_transforms_move_both_modalities_alike(tmp_path, seed):
    """Infrared is a copy of the blue channel here: after any geometric transform it still is."""
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for folder, image in (('rgb', visible), ('thermal', visible[..., 0])):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / 'a.png'), image)
    content = {
        'images': [{'id': 1, 'file_name': 'a.png', 'width': 40, 'height': 30}],
        'categories': [{'id': 1, 'name': 'person'}],
        'annotations': [
            {'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': [4, 5, 30, 20], 'area': 600, 'iscrowd': 0},
        ],
    }
    (tmp_path / 'boxes.json').write_text(json.dumps(content))
    pipeline = [
        PIPELINE[0],
        PIPELINE[1],
        {'type': 'RandomChoiceResize', 'scales': [(60, 50), (80, 70), (33, 25)], 'keep_ratio': True},
        {'type': 'RandomFlip', 'prob': 0.5},
        {'type': 'RandomCrop', 'crop_size': (20, 24), 'allow_negative_crop': True},
        {'type': 'Pad', 'size_divisor': 32},
        {'type': 'PackDetInputs', 'meta_keys': ('img_shape', 'pad_shape')},
    ]
    np.random.seed(seed)
    dataset = PairCocoDataset(
        data_root=str(tmp_path),
        ann_file='boxes.json',
        data_prefix={'img': 'rgb', 'ir': 'thermal'},
        pipeline=pipeline,
    )
    item = dataset[0]
    assert item['inputs'].shape == (4, 32, 32)
    assert np.array_equal(item['inputs'][3], item['inputs'][0])
    assert len(item['inputs'][0].unique()) > 50
