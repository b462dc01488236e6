"""Infrared-visible segmentation datasets."""

import numpy as np
from mmseg.datasets import BaseSegDataset

from paif_mm.registry import DATASETS

from .arguments import NamedClasses, check_indices, check_keys, refuse
from .listing import find_samples, inform

LIGHTING = {'day': 'D', 'night': 'N'}
UNUSED = {
    'img_suffix': 'images are found by their ids, whatever their ending',
    'seg_map_suffix': 'labels are found by their ids, whatever their ending',
    'filter_cfg': 'choose samples by ann_file or indices',
}


class PairSegDataset(NamedClasses, BaseSegDataset):
    """MFNet's nine classes (Ha et al., IROS 2017), and what all datasets of labelled pairs share.

    A sample's files have one name in all folders, its id, and any of the endings .png, .jpg, .jpeg, .bmp, .tif, .tiff,
    also in upper case. What is not used is counted in the log.

    Args:
        ann_file (str): a list of ids, one per line; UTF-8, or what a byte order mark says. Default: every image.
        data_prefix (dict | None): the folders, relative to ``data_root``, where they differ from :attr:`FOLDERS`.
        metainfo (dict | None): ``dict(classes=...)`` chooses some of the data set's classes, the others are ignored; or
            names others, of which each is what the label files call by its place. ``palette`` are their colours.
        lighting (str | None): ``'day'`` or ``'night'`` keeps the pairs whose id ends in D or N. Default: all.
        kwargs: as mmseg's BaseSegDataset.

    Raises:
        FileNotFoundError: a folder or the list, or the image, partner or label of an id does not exist.
        ValueError: two files of one id, a list that is no text, an argument that would not be used.
    """

    FOLDERS: dict = {}

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

    def __init__(
        self,
        ann_file: str = '',
        data_prefix: dict | None = None,
        metainfo: dict | None = None,
        lighting: str | None = None,
        **kwargs,
    ):
        if lighting is not None and lighting not in LIGHTING:
            raise ValueError(f"lighting must be 'day', 'night' or None, not {lighting!r}")
        self.lighting = lighting
        check_keys('data_prefix', data_prefix, self.FOLDERS)
        refuse(self, kwargs, UNUSED)
        if kwargs.get('ignore_index', 255) != 255:
            raise ValueError(f'ignore_index={kwargs["ignore_index"]}: in labels 255 is ignored, as everywhere in mmseg')
        folders = {**self.FOLDERS, **(data_prefix or {})}
        super().__init__(ann_file=ann_file, data_prefix=folders, metainfo=metainfo, **kwargs)
        names = self.METAINFO['classes']
        if self.reduce_zero_label and names[0] == 'unlabeled' and not self._are_own(self._metainfo['classes']):
            raise ValueError(
                f'reduce_zero_label would call a {names[1]} {names[0]}: to ignore a class, leave it out of '
                'metainfo.classes'
            )

    def load_data_list(self) -> list[dict]:
        samples = find_samples(
            {role: self.data_prefix[role] for role in self.FOLDERS},
            ann_file=self.ann_file,
            data_root=self.data_root,
            backend_args=self.backend_args,
        )
        items = [self._item(**files) for name, files in samples.items() if self._is_lit(name)]
        if not items:
            raise ValueError(f'{type(self).__name__} found no pairs in {self.data_root} (lighting={self.lighting})')
        if len(items) < len(samples):
            inform(f'{len(samples) - len(items)} of {len(samples)} pairs left out by lighting={self.lighting!r}')
        check_indices(self._indices, len(items), self.ann_file or self.data_root)
        return items

    def _is_lit(self, name: str) -> bool:
        if self.lighting is not None and not name.endswith(tuple(LIGHTING.values())):
            raise ValueError(f'lighting={self.lighting!r} needs ids that end in D or N, which {name} does not')
        return self.lighting is None or name.endswith(LIGHTING[self.lighting])

    def _item(self, **paths) -> dict:
        return {
            **paths,
            'label_map': self.label_map,
            'reduce_zero_label': self.reduce_zero_label,
            'seg_fields': [],
            'num_labels': len(self.label_map or self._metainfo['classes']),  # those of the files, before any mapping
        }

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        loaded = super()._load_metainfo(metainfo)
        if cls._are_own(loaded['classes']) and 'palette' not in (metainfo or {}):
            colours = np.random.default_rng(0).integers(0, 256, (len(loaded['classes']), 3))
            loaded['palette'] = colours.tolist()
        return loaded

    @classmethod
    def get_label_map(cls, new_classes: tuple | None = None) -> dict | None:
        """mmseg's: from numbers in the files to those of the chosen classes; None where both are the same."""
        if new_classes is not None and cls._are_own(new_classes):
            return None
        unknown = [name for name in new_classes or () if name not in cls.METAINFO['classes']]
        if unknown:
            raise ValueError(
                f'metainfo.classes {", ".join(unknown)} are not of {cls.__name__}, others are: choose from '
                f'{", ".join(cls.METAINFO["classes"])}, or subclass it with a METAINFO of all classes'
            )
        return super().get_label_map(new_classes)

    @classmethod
    def _are_own(cls, classes: tuple) -> bool:
        return not set(classes) & set(cls.METAINFO['classes'])


@DATASETS.register_module()
class MFNetDataset(PairSegDataset):
    """MFNet in its own layout: ``images/ID.png`` (RGBA, fourth channel infrared), ``labels/ID.png`` and lists of ids.

    Args:
        ann_file (str): the list: ``train.txt``, ``val.txt``, ``test.txt``, ``test_day.txt``, ``test_night.txt``.
        kwargs: as :class:`PairSegDataset`.
    """

    FOLDERS = {'img_path': 'images', 'seg_map_path': 'labels'}

    def __init__(self, ann_file: str = 'train.txt', **kwargs):
        super().__init__(ann_file=ann_file, **kwargs)


@DATASETS.register_module()
class MSRSDataset(PairSegDataset):
    """MSRS layout (Tang et al., Information Fusion 2022): ``vi/ID``, ``ir/ID`` and ``Segmentation_labels/ID``.

    ``data_root`` is the folder of one split, e.g. ``data/msrs/train``, or of all, with lists of ids as ``ann_file``.
    """

    FOLDERS = {'img_path': 'vi', 'ir_path': 'ir', 'seg_map_path': 'Segmentation_labels'}
