"""Infrared-visible segmentation datasets."""

import numpy as np
from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from paif_mm.registry import DATASETS

from .arguments import (
    NamedClasses,
    check_dict,
    check_indices,
    check_keys,
    check_list_file,
    choose_folders,
    class_names,
    listed,
    random_palette,
    refuse,
)
from .listing import find_samples, inform, warn
from .loading import LoadPairAnnotations, LoadPairFromFile

LIGHTING = {'day': 'D', 'night': 'N'}
NOTHING = ('unlabeled', 'unlabelled', 'background', 'void')  # what reduce_zero_label takes off
UNUSED = {
    'img_suffix': 'images are found by their ids, whatever their ending, or as names=dict(img_path=...) says',
    'seg_map_suffix': 'labels are found by their ids, whatever their ending, or as names=dict(seg_map_path=...) says',
    'filter_cfg': 'choose samples by ann_file or indices',
}
MFNET = {
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


@DATASETS.register_module()
class PairSegDataset(NamedClasses, BaseSegDataset):
    """Labelled pairs in folders of any names: a visible, an infrared and a label file for each sample.

    A sample's files have one name in all folders, its id, or as ``names`` says, and any of the endings .png, .jpg,
    .jpeg, .bmp, .tif, .tiff, also in upper case. What is not used is counted in the log.

    Args:
        ann_file (str): a list of ids, one per line; UTF-8, or what a byte order mark says. Default: every image.
        data_prefix (dict | None): the folders ``img_path``, ``ir_path`` and ``seg_map_path``, relative to
            ``data_root``. Without ``ir_path`` the images are RGBA files with infrared as fourth channel. Without
            ``seg_map_path``, or with None, the pairs are a test set without labels, in test mode; a label folder that
            does not exist then means the same, and is told.
        names (dict | None): how the files of a folder are called, where not as the id alone: ``*`` stands for the id,
            as in ``dict(img_path='*_RGB', ir_path='*_IR')``, several stars for its parts
            (:class:`paif_mm.data.naming.Naming`).
        metainfo (dict | None): ``classes``: the names of the values in the label files, from 0; ``palette``: their
            colours. Where ``label_classes`` are known, ``classes`` may be some of them: the others are ignored.
        label_classes (tuple[str] | None): the names of all values in the label files, where ``metainfo`` chooses some.
            Default: those of a known data set, else ``metainfo['classes']``.
        lighting (str | None): ``'day'`` or ``'night'`` keeps the pairs whose id ends in D or N. Default: all.
        kwargs: as mmseg's BaseSegDataset.

    Raises:
        FileNotFoundError: a folder or the list, or the image, partner or label of an id does not exist.
        ValueError: two files of one id, a list that is no text, an argument that would not be used, no classes.
    """

    FOLDERS: dict = {}  # of a known data set
    ROLES = ('img_path', 'ir_path', 'seg_map_path')

    def __init__(
        self,
        ann_file: str = '',
        data_prefix: dict | None = None,
        metainfo: dict | None = None,
        names: dict | None = None,
        label_classes: tuple[str, ...] | None = None,
        lighting: str | None = None,
        **kwargs,
    ):
        if lighting is not None and lighting not in LIGHTING:
            raise ValueError(f"lighting must be 'day', 'night' or None, not {lighting!r}")
        self.lighting = lighting
        check_list_file(ann_file)
        folders = choose_folders(data_prefix, self.FOLDERS, self.ROLES)
        if 'seg_map_path' not in folders and not kwargs.get('test_mode'):
            raise ValueError(
                f'data_prefix {folders} names no folder of labels, seg_map_path; none is for a test set, with '
                'test_mode=True'
            )
        check_keys('names', names, folders)
        self._names = dict(names or {})
        refuse(self, kwargs, UNUSED)
        if kwargs.get('ignore_index', 255) != 255:
            raise ValueError(f'ignore_index={kwargs["ignore_index"]}: in labels 255 is ignored, as everywhere in mmseg')
        self._label_classes = None if label_classes is None else class_names('label_classes', label_classes)
        super().__init__(ann_file=ann_file, data_prefix=folders, metainfo=metainfo, **kwargs)
        names = self._label_classes or self._metainfo['classes']
        if self.reduce_zero_label and len(names) > 1 and names[0] in NOTHING:
            raise ValueError(
                f'reduce_zero_label would call a {names[1]} {names[0]}: to ignore a class, leave it out of '
                'metainfo.classes; or leave out the name of 0 where the label files have it'
            )

    def load_data_list(self) -> list[dict]:
        samples = find_samples(
            self._folders(),
            ann_file=self.ann_file,
            data_root=self.data_root,
            backend_args=self.backend_args,
            names=self._names,
        )
        items = [self._item(**files) for sample, files in samples.items() if self._is_lit(sample)]
        if not items:
            raise ValueError(f'{type(self).__name__} found no pairs in {self.data_root} (lighting={self.lighting})')
        if len(items) < len(samples):
            inform(f'{len(samples) - len(items)} of {len(samples)} pairs left out by lighting={self.lighting!r}')
        check_indices(self._indices, len(items), self.ann_file or self.data_root)
        return items

    def get_cat_ids(self, idx: int) -> list[int]:
        """The classes in a sample's labels, by which mmengine's ``ClassBalancedDataset`` repeats rare ones."""
        loaded = LoadPairAnnotations()(LoadPairFromFile()(self.get_data_info(idx)))
        return [value for value in np.unique(loaded['gt_seg_map']).tolist() if value != 255]

    def _folders(self) -> dict[str, str]:
        """The folders to read, without that of labels where a test set has none."""
        folders = dict(self.data_prefix)
        labels = folders.get('seg_map_path')
        if labels and self.test_mode and not fileio.exists(labels, backend_args=self.backend_args):
            warn(f'{labels} does not exist: taken as a test set without labels')
            del folders['seg_map_path']
        return folders

    def _is_lit(self, sample: str) -> bool:
        if self.lighting is not None and not sample.endswith(tuple(LIGHTING.values())):
            raise ValueError(f'lighting={self.lighting!r} needs ids that end in D or N, which {sample} does not')
        return self.lighting is None or sample.endswith(LIGHTING[self.lighting])

    def _item(self, **paths) -> dict:
        return {
            **paths,
            'label_map': self.label_map,
            'reduce_zero_label': self.reduce_zero_label,
            'seg_fields': [],
            'num_labels': len(self.label_map or self._metainfo['classes']),  # those of the files, before any mapping
        }

    def _load_metainfo(self, metainfo: dict | None = None) -> dict:
        check_dict('metainfo', metainfo)
        given = dict(metainfo or {})
        if self._label_classes:
            given.setdefault('classes', self._label_classes)
        loaded = super()._load_metainfo(given)
        if 'classes' not in loaded:
            raise ValueError(
                f'{type(self).__name__} needs the names of the values in the label files, from 0: '
                'metainfo=dict(classes=(...))'
            )
        if not self._label_classes and set(loaded['classes']) & set(self.METAINFO.get('classes', ())):
            self._label_classes = self.METAINFO['classes']  # of a known data set
        if 'palette' not in given and self._label_classes != self.METAINFO.get('classes', ()):
            loaded['palette'] = random_palette(len(self._label_classes or loaded['classes']))
        return loaded

    def get_label_map(self, new_classes: tuple | None = None) -> dict | None:
        """mmseg's: from numbers in the files to those of the chosen classes; None where both are the same."""
        known = self._label_classes
        if known is None or list(known) == list(new_classes):
            return None
        unknown = [name for name in new_classes if name not in known]
        if unknown:
            raise ValueError(
                f'metainfo.classes {", ".join(unknown)} are not of {type(self).__name__}, others are: choose from '
                f'{listed(known, unknown[0])}; or name all values in the label files by label_classes=(...)'
            )
        return {value: new_classes.index(name) if name in new_classes else 255 for value, name in enumerate(known)}


@DATASETS.register_module()
class MFNetDataset(PairSegDataset):
    """MFNet (Ha et al., IROS 2017): ``images/ID.png`` (RGBA, fourth channel infrared), ``labels/ID.png``, lists of ids.

    Args:
        ann_file (str): the list: ``train.txt``, ``val.txt``, ``test.txt``, ``test_day.txt``, ``test_night.txt``.
        kwargs: as :class:`PairSegDataset`. Classes that MFNet does not have are what the label files call by their
            places.
    """

    METAINFO = MFNET
    FOLDERS = {'img_path': 'images', 'seg_map_path': 'labels'}

    def __init__(self, ann_file: str = 'train.txt', **kwargs):
        super().__init__(ann_file=ann_file, **kwargs)


@DATASETS.register_module()
class MSRSDataset(PairSegDataset):
    """MSRS (Tang et al., Information Fusion 2022), with MFNet's classes: ``{vi,ir,Segmentation_labels}/ID``.

    ``data_root`` is the folder of one split, e.g. ``data/msrs/train``, or of all, with lists of ids as ``ann_file``.
    """

    METAINFO = MFNET
    FOLDERS = {'img_path': 'vi', 'ir_path': 'ir', 'seg_map_path': 'Segmentation_labels'}
