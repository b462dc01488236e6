"""Small folders in the layouts of the data sets that ``configs/_base_/datasets`` names, as they are published."""

import json
from pathlib import Path

import cv2
import numpy as np

from paif_mm.data.synthetic import make_synthetic

SIZE = (64, 96)
SPLITS = {'train': 'train', 'val': 'test'}  # the synthetic scenes' splits, and what most data sets call them
IGNORED = ('people', 'person?', 'cyclist', 'person?a')  # KAIST's other names
BORDER = 100  # of DroneVehicle's images, white
VEHICLES = {'person': 'car', 'bicycle': 'feright car', 'car': 'truvk'}  # DroneVehicle's names, as they are spelled


def make_published(data: Path) -> None:
    """Fill ``data`` with 8 + 4 scenes as fmb, pst900, llvip, flir_aligned, kaist and dronevehicle.

    Four are also there without labels, as roadscene and tno.
    """
    scenes = data / 'synthetic'
    make_synthetic(scenes, train=8, val=4, size=SIZE, progress=False)
    lists = {name: [] for name in ('align_train', 'align_validation', 'train-all-02', 'test-all-20')}
    number = 0
    for split, published in SPLITS.items():
        content = json.loads((scenes / 'annotations' / f'instances_{split}.json').read_text())
        boxes = {image['file_name']: [] for image in content['images']}
        files = {image['id']: image['file_name'] for image in content['images']}
        names = {category['id']: category['name'] for category in content['categories']}
        for entry in content['annotations']:
            boxes[files[entry['image_id']]].append((names[entry['category_id']], *entry['bbox']))
        for scene in (scenes / f'{split}.txt').read_text().split():
            number += 1
            pair = cv2.imread(str(scenes / 'images' / f'{scene}.png'), cv2.IMREAD_UNCHANGED)
            label = cv2.imread(str(scenes / 'labels' / f'{scene}.png'), cv2.IMREAD_UNCHANGED)
            here = boxes[f'{scene}.png']
            _fmb(data / 'fmb' / published, f'{number:05d}', pair, label)
            _pst900(data / 'pst900' / published, f'31_bag1a_rect_rgb_frame{number:010d}', pair, label)
            _llvip(data / 'llvip', published, f'{number:06d}', pair, here)
            aligned = {'train': 'align_train', 'val': 'align_validation'}[split]
            lists[aligned].append(_flir(data / 'flir_aligned', f'FLIR_{number:05d}', pair, here))
            frames = {'train': 'train-all-02', 'val': 'test-all-20'}[split]
            folder = {'train': 'set00/V000', 'val': 'set06/V001'}[split]
            lists[frames].append(_kaist(data / 'kaist', folder, f'I{number:05d}', pair, here))
            for vehicles in {'train': ['train'], 'val': ['val', 'test']}[split]:
                _dronevehicle(data / 'dronevehicle', vehicles, f'{number:05d}', pair, here)
            if split == 'val':
                _unlabelled(data, number, pair)
    for name, lines in lists.items():
        path = data / 'flir_aligned' if name.startswith('align') else data / 'kaist' / 'imageSets'
        write(path / f'{name}.txt', '\n'.join(lines) + '\n')


def make_own(data: Path) -> None:
    """The same scenes as a person's own folders, ``data/own`` and, all in one folder, ``data/mixed``."""
    own, mixed = data / 'own', data / 'mixed'
    for split in SPLITS:
        content = json.loads((data / 'synthetic' / 'annotations' / f'instances_{split}.json').read_text())
        names = {category['id']: category['name'] for category in content['categories']}
        scenes = []
        for image in content['images']:
            scene = image['file_name'].removesuffix('.png')
            scenes.append(scene)
            pair = cv2.imread(str(data / 'synthetic' / 'images' / image['file_name']), cv2.IMREAD_UNCHANGED)
            label = cv2.imread(str(data / 'synthetic' / 'labels' / image['file_name']), cv2.IMREAD_UNCHANGED) % 3
            boxes = [
                (names[entry['category_id']], *entry['bbox'])
                for entry in content['annotations']
                if entry['image_id'] == image['id']
            ]
            write(own / 'boxes' / f'{scene}.xml', voc(boxes))
            parts = {('rgb', 'vis'): pair[..., :3], ('thermal', 'ir'): pair[..., 3], ('labels', 'mask'): label}
            for (folder, mark), array in parts.items():
                write(own / folder / image['file_name'], array)
                write(mixed / 'all' / f'{scene}_{mark}.png', array)
        write(own / f'{split}.json', json.dumps(content))
        write(own / f'{split}.txt', '\n'.join(scenes))
        write(mixed / f'{split}.txt', '\n'.join(f'{scene}_mask.png' for scene in scenes))


def _fmb(root: Path, name: str, pair: np.ndarray, label: np.ndarray) -> None:
    write(root / 'Visible' / f'{name}.png', pair[..., :3])
    write(root / 'Infrared' / f'{name}.png', np.dstack([pair[..., 3]] * 3))
    write(root / 'Label' / f'{name}.png', label)
    write(root / 'color' / f'{name}.png', np.dstack([label * 30] * 3))


def _pst900(root: Path, name: str, pair: np.ndarray, label: np.ndarray) -> None:
    write(root / 'rgb' / f'{name}.png', pair[..., :3])
    write(root / 'thermal' / f'{name}.png', pair[..., 3])
    write(root / 'thermal_raw' / f'{name}.png', pair[..., 3].astype(np.uint16) * 100)
    write(root / 'depth' / f'{name}.png', pair[..., 3].astype(np.uint16) * 200)
    write(root / 'labels' / f'{name}.png', label % 5)


def _llvip(root: Path, split: str, name: str, pair: np.ndarray, boxes: list) -> None:
    write(root / 'visible' / split / f'{name}.jpg', pair[..., :3])
    write(root / 'infrared' / split / f'{name}.jpg', pair[..., 3])
    write(root / 'Annotations' / f'{name}.xml', voc([('person', *box[1:]) for box in boxes]))


def _flir(root: Path, name: str, pair: np.ndarray, boxes: list) -> str:
    write(root / 'JPEGImages' / f'{name}_RGB.jpg', pair[..., :3])
    write(root / 'JPEGImages' / f'{name}_PreviewData.jpeg', pair[..., 3])
    write(root / 'Annotations' / f'{name}_PreviewData.xml', voc([*boxes, ('dog', 5, 6, 20, 12)]))
    return f'{name}_PreviewData'


def _kaist(root: Path, folder: str, frame: str, pair: np.ndarray, boxes: list) -> str:
    write(root / 'images' / folder / 'visible' / f'{frame}.jpg', pair[..., :3])
    write(root / 'images' / folder / 'lwir' / f'{frame}.jpg', pair[..., 3])
    boxes = [('person', *box[1:]) for box in boxes] + [(name, 5, 6, 20, 12) for name in IGNORED]
    xml = ''.join(
        f'<object><name>{name}</name><bndbox><x>{x}</x><y>{y}</y><w>{w}</w><h>{h}</h></bndbox>'
        '<occlusion>0</occlusion></object>'
        for name, x, y, w, h in boxes
    )
    for version in ('annotations-xml-new', 'annotations-xml-new-sanitized'):
        write(root / version / folder / f'{frame}.xml', f'<annotation>{xml}</annotation>')
    text = ''.join(f'{name} {x} {y} {w} {h} 0 0 0 0 0 0 0\n' for name, x, y, w, h in boxes)
    write(root / 'sanitized_annotations' / f'{folder.replace("/", "_")}_{frame}.txt', f'% bbGt version=3\n{text}')
    for modality in ('visible', 'lwir'):
        write(root / 'annotations_paired' / folder / modality / f'{frame}.txt', f'% bbGt version=3\n{text}')
    return f'{folder}/{frame}'


def _dronevehicle(root: Path, split: str, name: str, pair: np.ndarray, boxes: list) -> None:
    """Every other box turned: its four corners, of which each touches another side of the box."""
    height, width = (side + 2 * BORDER for side in SIZE)
    whole = np.full((height, width, 4), 255, np.uint8)
    whole[BORDER:-BORDER, BORDER:-BORDER] = pair
    write(root / split / f'{split}img' / f'{name}.jpg', whole[..., :3])
    write(root / split / f'{split}imgr' / f'{name}.jpg', np.dstack([whole[..., 3]] * 3))
    objects = ''
    for place, (kind, x, y, w, h) in enumerate([*boxes, (None, 1, 1, 20, 12)]):
        x, y = x + BORDER + 1, y + BORDER + 1
        corners = [(x, y + h // 2), (x + w // 2, y), (x + w, y + h // 2), (x + w // 2, y + h)]
        turned = ''.join(f'<x{i}>{cx}</x{i}><y{i}>{cy}</y{i}>' for i, (cx, cy) in enumerate(corners, 1))
        straight = f'<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>'
        shape = f'<polygon>{turned}</polygon>' if place % 2 else f'<bndbox>{straight}</bndbox>'
        objects += f'<object><name>{VEHICLES.get(kind, "*")}</name><difficult>0</difficult>{shape}</object>'
    size = f'<size><width>{width}</width><height>{height}</height><depth>3</depth></size>'
    for labels in (f'{split}label', f'{split}labelr'):
        write(root / split / labels / f'{name}.xml', f'<annotation>{size}{objects}</annotation>')


def _unlabelled(data: Path, number: int, pair: np.ndarray) -> None:
    """Of another size each; TNO's visible images are grey, and RoadScene's are there in another resolution, too."""
    pair = np.ascontiguousarray(pair[: SIZE[0] - 2 * number, : SIZE[1] - 3 * number])
    road, tno = data / 'roadscene', data / 'tno'
    name = f'FLIR_{number:05d}.jpg'
    write(road / 'crop_LR_visible' / name, pair[..., :3])
    write(road / 'crop_HR_visible' / name, np.repeat(np.repeat(pair[..., :3], 2, 0), 2, 1))
    write(road / 'cropinfrared' / name, pair[..., 3])
    write(tno / 'vi' / f'{number:02d}.png', pair[..., 1])
    write(tno / 'ir' / f'{number:02d}.png', pair[..., 3])


def voc(boxes: list) -> str:
    objects = ''.join(
        f'<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>'
        f'<xmax>{x + w + 1}</xmax><ymax>{y + h + 1}</ymax></bndbox></object>'
        for name, x, y, w, h in boxes
    )
    height, width = SIZE
    return f'<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>'


def write(path: Path, content: str | np.ndarray) -> None:
    """A text, or an image in the format that the path's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        path.write_bytes(cv2.imencode(path.suffix, content)[1].tobytes())
