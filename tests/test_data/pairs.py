"""Small data sets of every layout, and the class that reads each."""

import json
from pathlib import Path

import cv2
import numpy as np

from paif_mm.data import M3FDDataset, MFNetDataset, MSRSDataset, PairCocoDataset, PairSegDataset, PairVOCDataset

SIZE = (12, 16)  # height, width
#: The folders of each class, by role.
FOLDERS = {
    MFNetDataset: {'img_path': 'images', 'seg_map_path': 'labels'},
    PairSegDataset: {'img_path': 'Visible', 'ir_path': 'Infrared', 'seg_map_path': 'Label'},
    PairVOCDataset: {'img_path': 'visible', 'ir_path': 'infrared', 'xml_path': 'Annotations'},
    MSRSDataset: {'img_path': 'vi', 'ir_path': 'ir', 'seg_map_path': 'Segmentation_labels'},
    M3FDDataset: {'img_path': 'Vis', 'ir_path': 'Ir', 'xml_path': 'Annotation'},
    PairCocoDataset: {'img_path': 'rgb', 'ir_path': 'thermal'},
}
LAYOUTS = [MFNetDataset, MSRSDataset, M3FDDataset, PairSegDataset, PairVOCDataset]  # a file per sample and folder
#: What the classes that know no data set are told.
CLASSES = {
    PairSegDataset: {'label_classes': MFNetDataset.METAINFO['classes']},
    PairVOCDataset: {'metainfo': {'classes': M3FDDataset.METAINFO['classes']}},
}
XML = '<annotation><size><width>16</width><height>12</height></size>{}</annotation>'
OBJECT = '<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>'
PREFIX = {'img': 'rgb', 'ir': 'thermal'}


def write_file(path: Path, kind: type, role: str) -> None:
    """An image, label or annotation that ``kind`` can load, in the format that the path's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if role == 'xml_path':
        path.write_text(XML.format(OBJECT.format('Car', 2, 3, 9, 9)))
        return
    channels = {'ir_path': 1, 'seg_map_path': 1}.get(role, 4 if kind is MFNetDataset else 3)
    image = np.full((*SIZE, channels), 3, np.uint8).squeeze()
    path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())


def make_set(root: Path, kind: type, ids: list[str], ending: str = '.png') -> Path:
    """Samples of the given ids in a class's own layout."""
    for role, folder in FOLDERS[kind].items():
        for name in ids:
            write_file(root / folder / f'{name}{".xml" if role == "xml_path" else ending}', kind, role)
    if kind is PairCocoDataset:
        write_coco(root, coco_of([f'{name}{ending}' for name in ids]))
    return root


def coco_of(files: list[str]) -> dict:
    """COCO's content: a person in each image."""
    height, width = SIZE
    images = [{'id': i, 'file_name': name, 'width': width, 'height': height} for i, name in enumerate(files, 1)]
    boxes = [
        {'id': i, 'image_id': i, 'category_id': 1, 'bbox': [2, 3, 7, 6], 'area': 42, 'iscrowd': 0}
        for i in range(1, len(files) + 1)
    ]
    names = ['person', 'bicycle', 'car']
    categories = [{'id': i, 'name': name} for i, name in enumerate(names, 1)]
    return {'images': images, 'annotations': boxes, 'categories': categories}


def write_coco(root: Path, content: dict) -> None:
    (root / 'boxes.json').write_text(json.dumps(content))


def open_set(kind: type, root: Path, **kwargs):
    """The data set of a folder; without ``ann_file`` every sample."""
    if kind is PairCocoDataset:
        kwargs = {'ann_file': 'boxes.json', 'data_prefix': PREFIX, **kwargs}
    if kind in CLASSES:
        prefix = {**FOLDERS[kind], **kwargs.pop('data_prefix', {})}
        kwargs = {**CLASSES[kind], **kwargs, 'data_prefix': prefix}
    # mmengine collects garbage while it serialises, which takes longer than all the rest
    return kind(**{'ann_file': '', 'data_root': str(root), 'serialize_data': False, **kwargs})


def paths_of(dataset) -> list[dict[str, str]]:
    """The files of each sample, by role."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [{role: info[role] for role in FOLDERS[type(dataset)]} for info in infos]
