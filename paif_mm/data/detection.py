"""Infrared-visible detection datasets, on mmdet's own."""

import os.path as osp
import xml.etree.ElementTree as ET

import mmengine
from mmdet.datasets import CocoDataset, XMLDataset
from mmengine import fileio

from paif_mm.registry import DATASETS


@DATASETS.register_module()
class M3FDDataset(XMLDataset):
    """M3FD in its own layout (Liu et al., CVPR 2022): ``Vis/ID.png``, ``Ir/ID.png`` and ``Annotation/ID.xml`` (VOC).

    Args:
        ann_file (str): list of ids, one per line. Default: every annotated pair.
        clip_boxes (bool): clip boxes that reach beyond their image instead of refusing them.
        kwargs: as mmdet's XMLDataset.

    Raises:
        FileNotFoundError: a list, or the image, partner or annotation of a listed id, does not exist.
        ValueError: an annotation that cannot be read, names an unknown class, or has a box outside its image.
    """

    METAINFO = {
        'classes': ('People', 'Car', 'Bus', 'Motorcycle', 'Lamp', 'Truck'),
        'palette': [(220, 20, 60), (0, 80, 200), (0, 170, 170), (190, 120, 0), (230, 200, 0), (120, 60, 170)],
    }
    FOLDERS = {'img_path': 'Vis', 'ir_path': 'Ir', 'xml_path': 'Annotation'}

    def __init__(self, ann_file: str = '', clip_boxes: bool = False, **kwargs):
        self.clip_boxes = clip_boxes
        super().__init__(img_subdir='Vis', ann_subdir='Annotation', ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        self.cat2label = {name: i for i, name in enumerate(self._metainfo['classes'])}
        files = {key: _files(osp.join(self.data_root or '', folder), self) for key, folder in self.FOLDERS.items()}
        ids = list(files['xml_path'])
        if self.ann_file:
            if not fileio.exists(self.ann_file, backend_args=self.backend_args):
                raise FileNotFoundError(
                    f'{self.ann_file} does not exist: set data_root (now {self.data_root}) or ann_file'
                )
            lines = fileio.list_from_file(self.ann_file, backend_args=self.backend_args)
            ids = [line.strip() for line in lines if line.strip()]
        items = []
        for pair in ids:
            for key, found in files.items():
                if pair not in found:
                    raise FileNotFoundError(f'{self.data_root} holds no {self.FOLDERS[key]}/{pair} of the pair {pair}')
            raw = {'img_id': pair, 'file_name': files['img_path'][pair], 'xml_path': files['xml_path'][pair]}
            items.append({**self.parse_data_info(raw), 'ir_path': files['ir_path'][pair]})
        return items

    def parse_data_info(self, img_info: dict) -> dict:
        path = img_info['xml_path']
        try:
            info = super().parse_data_info(img_info)
        except (ET.ParseError, AttributeError, TypeError) as error:  # no XML, or a part is missing
            raise ValueError(f'{path} cannot be read as a VOC annotation: {error}') from error
        except KeyError as error:
            raise ValueError(
                f'{path} names the class {error.args[0]!r}: known are {", ".join(self.METAINFO["classes"])}'
            ) from None
        for instance in info['instances']:
            instance['bbox'] = box_inside(instance['bbox'], info['width'], info['height'], path, self.clip_boxes)
        return info

    def _parse_instance_info(self, raw_ann_info, minus_one: bool = True) -> list[dict]:
        for entry in raw_ann_info.findall('object'):
            name = entry.find('name').text
            if name not in self.METAINFO['classes'] and name not in self.cat2label:
                raise KeyError(name)
        return super()._parse_instance_info(raw_ann_info, minus_one)


@DATASETS.register_module()
class PairCocoDataset(CocoDataset):
    """Pairs with boxes in COCO's format: one file name, in a visible and in an infrared folder (MSRS, LLVIP, FLIR).

    Args:
        data_prefix (dict): ``dict(img=<visible folder>, ir=<infrared folder>)``, relative to ``data_root``.
            Without ``ir`` the images are RGBA files with infrared as fourth channel.
        ir_name (tuple[str, str] | None): what to replace in a visible file's name to get its partner's, as
            ``('_RGB.jpg', '_PreviewData.jpeg')`` for FLIR-aligned. Default: both have one name.
        metainfo (dict): ``dict(classes=...)`` chooses categories, in the annotation file's order. Default: all.
        clip_boxes (bool): clip boxes that reach beyond their image instead of refusing them.
        kwargs: as mmdet's CocoDataset.

    Raises:
        FileNotFoundError: the annotation file, an image or its infrared partner does not exist.
        ValueError: an annotation of an unknown category, a box outside its image, or classes that the file does not
            have in this order.
    """

    METAINFO = {}

    def __init__(
        self,
        ann_file: str,
        data_prefix: dict,
        ir_name: tuple[str, str] | None = None,
        clip_boxes: bool = False,
        **kwargs,
    ):
        self.ir_name = ir_name
        self.clip_boxes = clip_boxes
        super().__init__(ann_file=ann_file, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        if not fileio.exists(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(f'{self.ann_file} does not exist: set data_root (now {self.data_root}) or ann_file')
        self._check_categories(mmengine.load(self.ann_file, backend_args=self.backend_args))
        self._names = {key: set(_names(self.data_prefix[key], self)) for key in self.data_prefix if key != 'seg'}
        return super().load_data_list()

    def _check_categories(self, content: dict) -> None:
        names = {category['id']: category['name'] for category in content['categories']}
        for annotation in content['annotations']:
            if annotation['category_id'] not in names:
                raise ValueError(
                    f'{self.ann_file}: annotation {annotation["id"]} has the unknown category '
                    f'{annotation["category_id"]}; the file defines {names}'
                )
        classes = self._metainfo.setdefault('classes', tuple(names.values()))
        self._metainfo.setdefault('palette', CocoDataset.METAINFO['palette'][: len(classes)])
        if [name for name in names.values() if name in classes] != list(classes):
            raise ValueError(
                f'metainfo.classes {list(classes)} must be categories of {self.ann_file}, in its order: '
                f'{list(names.values())}'
            )

    def parse_data_info(self, raw_data_info: dict) -> dict:
        image = raw_data_info['raw_img_info']
        for annotation in raw_data_info['raw_ann_info']:
            x, y, w, h = annotation['bbox']
            where = f'{self.ann_file}, annotation {annotation["id"]} of {image["file_name"]}'
            x0, y0, x1, y1 = box_inside([x, y, x + w, y + h], image['width'], image['height'], where, self.clip_boxes)
            annotation['bbox'] = [x0, y0, x1 - x0, y1 - y0]
        info = super().parse_data_info(raw_data_info)
        self._check_listed('img', image['file_name'], 'an image')
        if 'ir' in self.data_prefix:
            partner = image['file_name'].replace(*self.ir_name) if self.ir_name else image['file_name']
            self._check_listed('ir', partner, f'the infrared partner of {image["file_name"]},')
            info['ir_path'] = osp.join(self.data_prefix['ir'], partner)
        return info

    def _check_listed(self, key: str, name: str, what: str) -> None:
        if osp.basename(name) == name and name not in self._names[key]:  # folders inside are left to the loader
            raise FileNotFoundError(f'{self.data_prefix[key]} holds no {name}, {what} listed in {self.ann_file}')


def box_inside(box: list[float], width: int, height: int, where: str, clip: bool, slack: float = 1.0) -> list[float]:
    """A box (x0, y0, x1, y1) in pixels, refused where it leaves its image by more than ``slack`` pixels, or clipped."""
    x0, y0, x1, y1 = box
    if not clip and (min(x0, y0) < -slack or x1 > width + slack or y1 > height + slack):
        raise ValueError(
            f'{where}: the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) lies outside its image of {width}x{height}: correct '
            'it, or set clip_boxes=True'
        )
    return [max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)] if clip else box


def _names(folder: str, dataset) -> list[str]:
    if not osp.isdir(folder) and '://' not in folder:
        raise FileNotFoundError(f'{folder} does not exist: set data_root (now {dataset.data_root}) or data_prefix')
    return sorted(fileio.list_dir_or_file(folder, list_dir=False, backend_args=dataset.backend_args))


def _files(folder: str, dataset) -> dict[str, str]:
    """Paths of a folder's files by their names without endings."""
    return {osp.splitext(name)[0]: osp.join(folder, name) for name in _names(folder, dataset)}
