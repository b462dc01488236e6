"""A checked data set: what is right is not named, and all that is wrong is, by its file."""

import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import REPO

from paif_mm.apis.data_command import data
from paif_mm.data.faults import gathering


@pytest.fixture
def scenes(synthetic_root, tmp_path):
    return shutil.copytree(synthetic_root, tmp_path / 'scenes')


@pytest.fixture
def folders(tmp_path):
    """MSRS's layout: three pairs a split, a file each of visible, infrared and labels."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for index in range(3):
            for name, values in (('vi', (64, 96, 3)), ('ir', (64, 96)), ('Segmentation_labels', (64, 96))):
                (tmp_path / 'own' / split / name).mkdir(parents=True, exist_ok=True)
                image = rng.integers(0, 9 if name.startswith('S') else 256, values).astype(np.uint8)
                image = cv2.GaussianBlur(image, (0, 0), 6) if not name.startswith('S') else image
                cv2.imwrite(str(tmp_path / 'own' / split / name / f'{split}{index}.png'), image)
    return tmp_path / 'own'


def checked(root, capsys) -> tuple[int, list[str]]:
    """Exit code, and the lines of faults."""
    code = data(['check', str(root)])
    assert not gathering()
    said = capsys.readouterr().out.splitlines()
    lines = [line.strip() for line in said if line.startswith('  ')]
    assert said[-1].startswith('no faults' if code == 0 else f'{len(lines)} fault')
    return code, lines


def test_a_data_set_in_order_has_no_faults(scenes, folders, capsys):
    assert checked(scenes, capsys) == (0, [])
    assert checked(folders, capsys) == (0, [])
    config = scenes / 'config.py'
    config.write_text(f'_base_ = {str(REPO / "configs/_base_/datasets/synthetic.py")!r}\n')
    text = ''.join(
        f'{split}_dataloader = dict(dataset=dict(data_root={str(scenes)!r}))\n' for split in ('train', 'val')
    )
    config.write_text(config.read_text() + text + 'test_dataloader = val_dataloader\n')
    assert checked(config, capsys) == (0, [])


OBJECT = '<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'


def write(path, image):
    cv2.imwrite(str(path), image)


FAULTS = {
    'missing partner': (
        lambda root: (root / 'train/ir/train1.png').unlink(),
        ['ir holds no train1'],
    ),
    'missing image': (
        lambda root: (root / 'val/vi/val0.png').unlink(),
        ['ir: 1 file (val0.png)', 'Segmentation_labels: 1'],
    ),
    'missing label': (
        lambda root: (root / 'val/Segmentation_labels/val2.png').unlink(),
        ['Segmentation_labels holds no val2'],
    ),
    'size': (
        lambda root: write(root / 'train/ir/train0.png', np.ones((64, 90), np.uint8)),
        ['train0.png is 64x96 but its infrared partner'],
    ),
    'size of a label': (
        lambda root: write(root / 'val/Segmentation_labels/val1.png', np.ones((60, 96), np.uint8)),
        ['val1.png is 60x96'],
    ),
    'label value': (
        lambda root: write(root / 'train/Segmentation_labels/train2.png', np.full((64, 96), 77, np.uint8)),
        ['train2.png holds the label value(s) 77'],
    ),
    'colour label': (
        lambda root: write(root / 'train/Segmentation_labels/train2.png', np.ones((64, 96, 3), np.uint8)),
        ['train2.png has 3 channels'],
    ),
    'damaged': (
        lambda root: (root / 'train/vi/train2.png').write_bytes(b'no image'),
        ['train2.png cannot be read as an image'],
    ),
    'many bits': (
        lambda root: write(root / 'val/ir/val0.png', np.full((64, 96), 9000, np.uint16)),
        ['val0.png is uint16: declare the infrared values'],
    ),
    'two of one name': (
        lambda root: shutil.copy(root / 'val/vi/val0.png', root / 'val/vi/val0.bmp'),
        ['val0.bmp and val0.png, two files of one id'],
    ),
    'no image': (lambda root: (root / 'val/vi/notes.doc').write_text('x'), ['notes.doc']),
}


@pytest.mark.parametrize('kind', FAULTS)
def test_each_fault_is_named_and_the_rest_is_read(folders, capsys, kind):
    harm, said = FAULTS[kind]
    harm(folders)
    code, lines = checked(folders, capsys)
    assert code == 1 and len(lines) == len(said), lines
    for part in said:
        assert any(part in line for line in lines), (part, lines)


def test_all_faults_are_named_together(folders, capsys):
    for kind in ('missing partner', 'size of a label', 'damaged', 'many bits'):
        FAULTS[kind][0](folders)
    _, lines = checked(folders, capsys)
    for name in ('train1', 'val1.png', 'train2.png', 'val0.png'):
        assert any(name in line for line in lines), (name, lines)


def test_near_duplicates_across_splits_are_named_with_their_twins(folders, capsys):
    for part in ('vi', 'ir', 'Segmentation_labels'):
        image = cv2.imread(str(folders / 'train' / part / 'train1.png'), cv2.IMREAD_UNCHANGED)
        if part != 'Segmentation_labels':  # the next frame: noise, another exposure, a pixel further
            noise = np.random.default_rng(1).normal(0, 3, image.shape)
            image = np.clip(np.roll(image, 1, 1) * 0.9 + 5 + noise, 0, 255).astype(np.uint8)
        write(folders / 'val' / part / 'next.png', image)
    code, (line,) = checked(folders, capsys)
    assert code == 1
    assert 'val/vi/next.png of val is nearly (correlation 0.9' in line and 'train/vi/train1.png of train' in line


def test_a_listed_image_of_two_splits_is_named(scenes, capsys):
    first = (scenes / 'train.txt').read_text().split()[0]
    with open(scenes / 'val.txt', 'a') as file:
        file.write(f'{first}\n')
    code, lines = checked(scenes, capsys)
    assert code == 1 and len(lines) == 1
    assert f'{first}.png of val is also' in lines[0]


def test_boxes_and_annotations_of_coco_are_checked(scenes, capsys):
    path = scenes / 'annotations' / 'instances_val.json'
    content = json.loads(path.read_text())
    boxes = content['annotations']
    boxes[0]['bbox'] = [1000, 5, 10, 10]
    boxes[1]['bbox'] = [5, 5, -3, 10]
    boxes[2]['category_id'] = 99
    content['images'][1]['width'] = 50
    path.write_text(json.dumps(content))
    code, lines = checked(scenes, capsys)
    assert code == 1
    for said in ('lies outside its image', 'exchanged', 'unknown category 99', 'says 64x50'):
        assert any(said in line for line in lines), (said, lines)


def test_boxes_of_voc_are_checked(tmp_path, capsys):
    root, rng = tmp_path / 'm3fd', np.random.default_rng(0)
    names = [f'{index:05d}' for index in range(6)]
    for name in names:
        for folder, shape in (('Vis', (48, 64, 3)), ('Ir', (48, 64))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write(
                root / folder / f'{name}.png', cv2.GaussianBlur(rng.integers(0, 256, shape).astype(np.uint8), (0, 0), 5)
            )
    (root / 'Annotation').mkdir()
    classes = ('People', 'Car', 'Bus', 'Lamp', 'Motorcycle', 'Truck')
    good = [(name, (5, 5, 20, 20)) for name in classes]
    for name in names:
        objects = [*good, ('Car', (50, 5, 90, 20)), ('Car', (9, 9, 9, 9))] if name == names[0] else good
        (root / 'Annotation' / f'{name}.xml').write_text(
            f'<annotation>{"".join(OBJECT.format(n, *b) for n, b in objects)}</annotation>'
        )
    for split, part in (('train', names[:3]), ('test', names[3:])):
        (root / f'{split}.txt').write_text('\n'.join(part))
    code, lines = checked(root, capsys)
    assert code == 1 and len(lines) == 2
    assert 'lies outside its image of 64x48' in lines[0] and 'no width or no height' in lines[1]
    (root / 'Annotation' / f'{names[4]}.xml').write_text('<annotation>')
    assert any(f'{names[4]}.xml' in line for line in checked(root, capsys)[1])


def test_unknown_folders_are_told(tmp_path):
    (tmp_path / 'nothing').mkdir()
    with pytest.raises(SystemExit, match='laid out as none of'):
        data(['check', str(tmp_path / 'nothing')])
    with pytest.raises(SystemExit, match='is no folder'):
        data(['check', str(tmp_path / 'absent')])
