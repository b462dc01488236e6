"""Infrared-visible segmentation datasets."""

import os.path as osp

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from paif_mm.registry import DATASETS

LIGHTING = {'day': 'D', 'night': 'N'}


class PairSegDataset(BaseSegDataset):
    """MFNet's nine classes (Ha et al., IROS 2017), and what all datasets of labelled pairs share.

    Args:
        lighting (str | None): ``'day'`` or ``'night'`` keeps the pairs whose id ends in D or N. Default: all.
        kwargs: as mmseg's BaseSegDataset.
    """

    METAINFO = {
        'classes': ('unlabeled', 'car', 'person', 'bike', 'curve', 'car_stop', 'guardrail', 'color_cone', 'bump'),
        'palette': [
            [0, 0, 0],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
            [0, 0, 192],
            [128, 128, 0],
            [64, 64, 128],
            [192, 128, 128],
            [192, 64, 0],
        ],
    }

    def __init__(self, lighting: str | None = None, **kwargs):
        if lighting is not None and lighting not in LIGHTING:
            raise ValueError(f"lighting must be 'day', 'night' or None, not {lighting!r}")
        self.lighting = lighting
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        items = [self._item(**files) for files in self.find_pairs()]
        if self.lighting is not None:
            items = [item for item in items if _stem(item['img_path']).endswith(LIGHTING[self.lighting])]
        if not items:
            raise ValueError(f'{type(self).__name__} found no pairs in {self.data_root} (lighting={self.lighting})')
        return items

    def find_pairs(self) -> list[dict]:
        """Paths of each pair: ``img_path``, ``seg_map_path`` and, for two files, ``ir_path``."""
        raise NotImplementedError

    def _item(self, **paths) -> dict:
        return {
            **paths,
            'label_map': self.label_map,
            'reduce_zero_label': self.reduce_zero_label,
            'seg_fields': [],
            'num_labels': len(self.METAINFO['classes']),
        }

    def _files(self, prefix: str) -> dict[str, str]:
        """Paths of a folder's images by their ids, sorted."""
        folder = self.data_prefix[prefix]
        if not osp.isdir(folder) and '://' not in folder:
            raise FileNotFoundError(f'{folder} does not exist: set data_root (now {self.data_root}) or data_prefix')
        names = fileio.list_dir_or_file(folder, list_dir=False, suffix=('.png', '.jpg'), backend_args=self.backend_args)
        return {_stem(name): fileio.join_path(folder, name) for name in sorted(names)}

    def _partner(self, files: dict[str, str], pair: str, what: str, of: str, prefix: str) -> str:
        if pair not in files:
            raise FileNotFoundError(f'{self.data_prefix[prefix]} holds no {pair}.png or .jpg: the {what} of {of}')
        return files[pair]


@DATASETS.register_module()
class MFNetDataset(PairSegDataset):
    """MFNet in its own layout: ``images/ID.png`` (RGBA, fourth channel infrared), ``labels/ID.png`` and lists of ids.

    Args:
        ann_file (str): the list: ``train.txt``, ``val.txt``, ``test.txt``, ``test_day.txt``, ``test_night.txt``.

    Raises:
        FileNotFoundError: the list, or the image or label of a listed id, does not exist.
    """

    def __init__(self, ann_file: str = 'train.txt', data_prefix: dict | None = None, **kwargs):
        prefix = data_prefix or {'img_path': 'images', 'seg_map_path': 'labels'}
        super().__init__(ann_file=ann_file, data_prefix=prefix, **kwargs)

    def find_pairs(self) -> list[dict]:
        if not fileio.exists(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(f'{self.ann_file} does not exist: set data_root (now {self.data_root}) or ann_file')
        lines = fileio.list_from_file(self.ann_file, backend_args=self.backend_args)
        images, labels = self._files('img_path'), self._files('seg_map_path')
        return [
            {
                'img_path': self._partner(images, pair, 'image', self.ann_file, 'img_path'),
                'seg_map_path': self._partner(labels, pair, 'label', self.ann_file, 'seg_map_path'),
            }
            for pair in map(str.strip, lines)
            if pair
        ]


@DATASETS.register_module()
class MSRSDataset(PairSegDataset):
    """MSRS layout (Tang et al., Information Fusion 2022): ``vi/ID``, ``ir/ID`` and ``Segmentation_labels/ID``.

    Images are .png or .jpg. ``data_root`` is the folder of one split, e.g. ``data/msrs/train``.

    Raises:
        FileNotFoundError: a folder is missing, or a visible image has no infrared partner or no label.
    """

    def __init__(self, data_prefix: dict | None = None, **kwargs):
        prefix = data_prefix or {'img_path': 'vi', 'ir_path': 'ir', 'seg_map_path': 'Segmentation_labels'}
        super().__init__(data_prefix=prefix, **kwargs)

    def find_pairs(self) -> list[dict]:
        visible, infrared, labels = map(self._files, ('img_path', 'ir_path', 'seg_map_path'))
        return [
            {
                'img_path': path,
                'ir_path': self._partner(infrared, pair, 'infrared partner', path, 'ir_path'),
                'seg_map_path': self._partner(labels, pair, 'label', path, 'seg_map_path'),
            }
            for pair, path in visible.items()
        ]


def _stem(path: str) -> str:
    return osp.splitext(osp.basename(path))[0]
