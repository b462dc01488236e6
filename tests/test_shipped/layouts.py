"""A folder ``data`` with small synthetic scenes in every layout that a shipped config names."""

import json
from pathlib import Path

import cv2
from test_meta_init.banks import noise_bank

from paif_mm.data.synthetic import make_synthetic

SIZE = (64, 96)
M3FD_NAMES = {'person': 'People', 'bicycle': 'Motorcycle', 'car': 'Car'}


def make_layouts(data: Path) -> None:
    """Fill ``data`` with the layouts of MFNet, MSRS, M3FD, COCO boxes and class folders, and attack banks."""
    scenes = data / 'synthetic'
    make_synthetic(scenes, train=8, val=4, size=SIZE, progress=False)
    (scenes / 'test.txt').write_text((scenes / 'val.txt').read_text())
    (data / 'mfnet').symlink_to(scenes)
    for split in ('train', 'val'):
        boxes = json.loads((scenes / 'annotations' / f'instances_{split}.json').read_text())
        for scene in (scenes / f'{split}.txt').read_text().split():
            pair = cv2.imread(str(scenes / 'images' / f'{scene}.png'), cv2.IMREAD_UNCHANGED)
            label = cv2.imread(str(scenes / 'labels' / f'{scene}.png'), cv2.IMREAD_UNCHANGED)
            msrs, m3fd = data / 'msrs_half' / split, data / 'm3fd'
            _write(msrs / 'vi' / f'{scene}.png', pair[..., :3])
            _write(msrs / 'ir' / f'{scene}.png', pair[..., 3])
            _write(msrs / 'Segmentation_labels' / f'{scene}.png', label)
            _write(m3fd / 'Vis' / f'{scene}.png', pair[..., :3])
            _write(m3fd / 'Ir' / f'{scene}.png', pair[..., 3])
            _write(data / 'pairs' / split / {'D': 'day', 'N': 'night'}[scene[-1]] / f'{scene}.png', pair)
        _write_voc(boxes, data / 'm3fd' / 'Annotation')
    for split, name in (('train', 'train'), ('val', 'test')):
        (data / 'm3fd' / f'{name}.txt').write_text((scenes / f'{split}.txt').read_text())
    (data / 'msrs_half' / 'annotations').symlink_to(scenes / 'annotations')
    _own(data / 'own', scenes, data / 'pairs')
    noise_bank(data / 'bank', size=SIZE)


def _own(folder: Path, scenes: Path, pairs: Path) -> None:
    """A folder that no shipped config names, with the scenes in MFNet's layout, in COCO's and by class."""
    folder.mkdir()
    for source in (*scenes.iterdir(), *pairs.iterdir()):
        (folder / source.name).symlink_to(source)


def _write(path: Path, image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def _write_voc(boxes: dict, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    names = {category['id']: M3FD_NAMES[category['name']] for category in boxes['categories']}
    for image in boxes['images']:
        objects = ''
        for annotation in boxes['annotations']:
            if annotation['image_id'] == image['id']:
                x, y, w, h = annotation['bbox']
                corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), (x + 1, y + 1, x + w, y + h), strict=True)
                corners = ''.join(f'<{key}>{value}</{key}>' for key, value in corners)
                name = names[annotation['category_id']]
                objects += f'<object><name>{name}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>'
        size = f'<size><width>{image["width"]}</width><height>{image["height"]}</height></size>'
        path = folder / Path(image['file_name']).with_suffix('.xml').name
        path.write_text(f'<annotation>{size}{objects}</annotation>')
