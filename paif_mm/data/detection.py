"""Infrared-visible detection datasets, on mmdet's own."""

import os.path as osp
from collections import Counter, defaultdict
from io import BytesIO

from mmdet.datasets import CocoDataset, XMLDataset
from mmengine import fileio
from PIL import Image

from paif_mm.registry import DATASETS

from .arguments import (
    NamedClasses,
    check_dict,
    check_indices,
    check_keys,
    check_list_file,
    choose_folders,
    listed,
    random_palette,
    refuse,
)
from .bbgt import bbgt_objects
from .boxes import Boxed, check_box
from .coco import read_coco
from .coco_metric import BY_NAME
from .faults import fault
from .listing import count, find_samples, inform, list_folder, warn
from .naming import IMAGES
from .voc import read_voc, voc_objects, voc_size

BESIDE = 'nothing of them is inside their image'
UNUSED = {
    'img_subdir': 'name the folder of visible images by data_prefix=dict(img_path=...)',
    'ann_subdir': 'name the folder of annotations by data_prefix=dict(xml_path=...)',
    'seg_map_suffix': 'there are no label maps',
    'return_classes': "mmdet's XMLDataset does not hand them on",
    'caption_prompt': "mmdet's XMLDataset does not hand them on",
}


class PairDetDataset(NamedClasses):
    """What all detection data sets share: classes by name, filters that are used, and counts of what is left out.

    A box's ``bbox_label`` is the place of its class's name in ``metainfo['classes']``.
    """

    FILTERS: tuple[str, ...] = ()

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        return {**super()._load_metainfo(metainfo), BY_NAME: True}

    def _check_filters(self, filter_cfg: dict | None, test_mode: bool) -> None:
        check_keys('filter_cfg', filter_cfg, self.FILTERS)
        if filter_cfg and test_mode:
            raise ValueError(f'filter_cfg={dict(filter_cfg)} has no effect with test_mode=True: leave it out')

    def filter_data(self) -> list[dict]:
        kept = super().filter_data()
        if not kept:
            raise ValueError(f'{self._source} has no pairs, or filter_cfg={self.filter_cfg} leaves none')
        if len(kept) < len(self.data_list):
            left = len(self.data_list) - len(kept)
            inform(f'{left} of {len(self.data_list)} pairs of {self._source} left out by filter_cfg={self.filter_cfg}')
        check_indices(self._indices, len(kept), self._source)
        return kept

    @property
    def _source(self) -> str:
        return self.ann_file or self.data_root

    def _load_each(self, raw: list[dict]) -> list[dict]:
        """Parse all samples; say which boxes were left out, and which classes have none."""
        self._left_out, self._ignored, self._renamed = Counter(), Counter(), Counter()
        items = []
        for entry in raw:
            try:
                items.append(self.parse_data_info(entry))
            except (ValueError, FileNotFoundError) as error:
                fault(error)
        used = Counter(instance['bbox_label'] for item in items for instance in item['instances'])
        total = used.total() + self._left_out.total()
        for why, number in self._left_out.items():
            inform(f'{self._source}: {number} of {total} boxes left out: {why}')
        for what, number in self._ignored.items():
            inform(f'{self._source}: {number} of {total} boxes ignored: {what}')
        for what, number in self._renamed.items():
            inform(f'{self._source}: {number} of {total} boxes renamed: {what}')
        classes = self._metainfo['classes']
        empty = [name for label, name in enumerate(classes) if label not in used]
        if empty and (used or self._left_out):
            warn(f'{self._source}: no box of {count(empty, "class", "classes")}')
        return items

    def _size(self, path: str) -> tuple[int, int]:
        """(width, height) from an image file's head."""
        remote = self.backend_args or '://' in path
        try:
            with Image.open(BytesIO(fileio.get(path, backend_args=self.backend_args)) if remote else path) as image:
                return image.size
        except OSError as error:
            raise ValueError(f'{path} cannot be read as an image: it is damaged or of an unknown format') from error


@DATASETS.register_module()
class PairVOCDataset(PairDetDataset, XMLDataset):
    """Pairs with an annotation file for each image: VOC's XML, or text of an object a line as KAIST has it.

    A sample's files have one name in all folders, its id, or as ``names`` says. Images have any of the endings .png,
    .jpg, .jpeg, .bmp, .tif, .tiff, also in upper case. What is not used is counted in the log.

    Args:
        ann_file (str): list of ids, one per line. Default: every image (M3FD: every annotated pair).
        data_prefix (dict | None): the folders ``img_path``, ``ir_path``, and ``xml_path`` or ``txt_path``, relative to
            ``data_root``. Without ``ir_path`` the images are RGBA files with infrared as fourth channel. Without
            annotations, or with None, the pairs are a test set in test mode.
        names (dict | None): how the files of a folder are called, where not as the id alone: ``*`` stands for the id,
            as in ``dict(img_path='*_RGB', ir_path='*_PreviewData')``, several stars for its parts
            (:class:`paif_mm.data.naming.Naming`).
        metainfo (dict | None): ``dict(classes=...)``: the classes to detect; ``palette``: their colours.
        others (dict | None): what becomes of boxes of other names: the class they are ignored as, neither object nor
            background, or None to leave them out; their number is in the log. Names that neither ``classes`` nor
            ``others`` has are refused.
        aliases (dict | None): other spellings in the files -> class.
        border (int): pixels to cut off at each side of both images, with boxes in pixels of the whole ones; sizes in
            annotations are those of the whole images, too. Default: 0.
        clip_boxes (bool): clip boxes that reach beyond their image, and leave out those beside it, instead of refusing
            them.
        filter_cfg (dict | None): ``filter_empty_gt``, ``min_size``, ``bbox_min_size``, as mmdet's; not in test mode.
        kwargs: as mmdet's XMLDataset.

    Raises:
        FileNotFoundError: a folder or list, or the image, partner or annotation of a sample, does not exist.
        ValueError: an annotation that cannot be read, names an unknown class, or has a box of no extent or outside its
            image; an argument that would not be used; no classes.
    """

    METAINFO: dict = {}
    FOLDERS: dict = {}  # of a known data set
    ROLES = ('img_path', 'ir_path', 'xml_path', 'txt_path')
    LEADING = 'img_path'
    FILTERS = ('filter_empty_gt', 'min_size', 'bbox_min_size')

    def __init__(
        self,
        ann_file: str = '',
        data_prefix: dict | None = None,
        names: dict | None = None,
        metainfo: dict | None = None,
        others: dict | None = None,
        aliases: dict | None = None,
        border: int = 0,
        clip_boxes: bool = False,
        filter_cfg: dict | None = None,
        test_mode: bool = False,
        **kwargs,
    ):
        check_list_file(ann_file)
        check_dict('others', others)
        check_dict('aliases', aliases)
        if not isinstance(border, int) or border < 0:
            raise ValueError(f'border must be a number of pixels, not {border!r}')
        folders = choose_folders(data_prefix, self.FOLDERS, self.ROLES)
        annotated = [role for role in ('xml_path', 'txt_path') if role in folders]
        if len(annotated) > 1 or not (annotated or test_mode):
            raise ValueError(
                f'data_prefix {folders} must name one folder of annotations, xml_path or txt_path; none is for a test '
                'set, with test_mode=True'
            )
        check_keys('names', names, folders)
        self._check_filters(filter_cfg, test_mode)
        refuse(self, kwargs, UNUSED)
        self._annotated = annotated[0] if annotated else None
        self._names, self._others, self._aliases = dict(names or {}), dict(others or {}), dict(aliases or {})
        self.clip_boxes, self.border = clip_boxes, border
        super().__init__(
            ann_file=ann_file,
            data_prefix=folders,
            metainfo=metainfo,
            filter_cfg=filter_cfg,
            test_mode=test_mode,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        self._choose()
        leading = self.LEADING if self.LEADING in self.data_prefix else 'img_path'
        samples = find_samples(self.data_prefix, leading, self.ann_file, self.data_root, self.backend_args, self._names)
        if self._annotated is None:
            inform(f'{self._source} has no annotations: taken as a test set')
        return self._load_each([{'img_id': sample, **files} for sample, files in samples.items()])

    def _choose(self) -> None:
        """Fix the label of each class, and what becomes of other names: ``cat2label`` and ``_others``."""
        classes = self._metainfo.get('classes')
        if classes is None:
            raise ValueError(f'{type(self).__name__} needs the names of its classes: metainfo=dict(classes=(...))')
        self._metainfo.setdefault('palette', random_palette(len(classes)))
        self.cat2label = {name: label for label, name in enumerate(classes)}
        for name, become in self._others.items():
            if name in self.cat2label:
                raise ValueError(f'others names {name}, which is one of metainfo.classes: keep it in one of them')
            if become is not None and become not in self.cat2label:
                raise ValueError(
                    f'others has {name!r}: {become!r}, which is no class to be ignored as: take None, or one of '
                    f'{listed(self.cat2label, become)}'
                )
        for name, become in self._aliases.items():
            if become not in self.cat2label or name in self.cat2label or name in self._others:
                raise ValueError(
                    f'aliases has {name!r}: {become!r}: from a spelling that neither metainfo.classes nor others have, '
                    f'to one of the classes {listed(self.cat2label, str(become))}'
                )
        not_chosen = dict.fromkeys(name for name in self.METAINFO.get('classes', ()) if name not in self.cat2label)
        self._others = {**not_chosen, **self._others}

    def parse_data_info(self, img_info: dict) -> dict:
        width, height, objects = self._read(img_info)
        instances = []
        for thing in objects:
            if thing.name in self._aliases:
                self._renamed[f'{thing.name}, to {self._aliases[thing.name]}'] += 1
                thing = thing._replace(name=self._aliases[thing.name])
            label = self._label(thing, img_info[self._annotated])
            if label is not None:
                ignored = thing.ignored or thing.name not in self.cat2label or self._is_small(thing.box)
                instances.append({'ignore_flag': int(ignored), 'bbox': thing.box, 'bbox_label': label})
        size = {'height': height, 'width': width, **({'border': self.border} if self.border else {})}
        return {**img_info, 'ann_path': img_info.get(self._annotated), **size, 'instances': instances}

    def _read(self, img_info: dict) -> tuple[int, int, list[Boxed]]:
        """Width and height of an image, and its objects."""
        path, root = img_info.get(self._annotated), None
        if self._annotated == 'xml_path':
            root = read_voc(path, self.backend_args)
        size = (voc_size(root, path) if root is not None else None) or self._size(img_info['img_path'])
        width, height = (side - 2 * self.border for side in size)
        if min(width, height) < 1:
            raise ValueError(f'border={self.border} leaves nothing of {img_info["img_path"]}, {size[0]}x{size[1]}')
        if self._annotated is None:
            return width, height, []
        within = (width, height, self.clip_boxes, self.border)
        if root is not None:
            return width, height, voc_objects(root, path, *within)
        return width, height, bbgt_objects(path, *within, self.backend_args)

    def _label(self, thing: Boxed, path: str) -> int | None:
        """The number of an object's class, or of that which it is ignored as; None, and counted, where left out."""
        name = thing.name if thing.name in self.cat2label else self._others.get(thing.name)
        if name is None and thing.name not in self._others:
            known = dict.fromkeys([*self.METAINFO.get('classes', ()), *self.cat2label, *self._others])
            raise ValueError(
                f'{path} names the class {thing.name!r}: known are {listed(known, thing.name)}; say what it is by '
                f'metainfo.classes, or by others={{{thing.name!r}: None}} to leave it out'
            )
        if name is None:
            self._left_out[f'{thing.name} is not in metainfo.classes'] += 1
        elif thing.box is None:
            self._left_out[BESIDE] += 1
        else:
            if name != thing.name:
                self._ignored[f'{thing.name}, as {name}'] += 1
            return self.cat2label[name]
        return None

    def _is_small(self, box: list[float]) -> bool:
        return min(box[2] - box[0], box[3] - box[1]) < (self.bbox_min_size or 0)


@DATASETS.register_module()
class M3FDDataset(PairVOCDataset):
    """M3FD in its own layout (Liu et al., CVPR 2022): ``Vis/ID.png``, ``Ir/ID.png`` and ``Annotation/ID.xml`` (VOC)."""

    METAINFO = {
        'classes': ('People', 'Car', 'Bus', 'Motorcycle', 'Lamp', 'Truck'),
        'palette': [(220, 20, 60), (0, 80, 200), (0, 170, 170), (190, 120, 0), (230, 200, 0), (120, 60, 170)],
    }
    FOLDERS = {'img_path': 'Vis', 'ir_path': 'Ir', 'xml_path': 'Annotation'}
    LEADING = 'xml_path'


@DATASETS.register_module()
class PairCocoDataset(PairDetDataset, CocoDataset):
    """Pairs with boxes in COCO's format: one file name, in a visible and in an infrared folder (MSRS, LLVIP, FLIR).

    Args:
        ann_file (str): the annotations. Without ``annotations`` they are a test set in test mode; ``area``, ``iscrowd``
            and ``id`` of an annotation, ``width`` and ``height`` of an image may be missing.
        data_prefix (dict): ``dict(img=<visible folder>, ir=<infrared folder>)``, relative to ``data_root``.
            Without ``ir`` the images are RGBA files with infrared as fourth channel.
        ir_name (tuple[str, str] | None): what to replace in a visible file's name to get its partner's, as
            ``('_RGB.jpg', '_PreviewData.jpeg')`` for FLIR-aligned. Default: both have one name.
        metainfo (dict): ``dict(classes=...)`` chooses categories by their names and orders them, whatever the file's
            order. Default: all, by ascending id, so that files with the same ids agree.
        clip_boxes (bool): clip boxes that reach beyond their image, and leave out those beside it, instead of refusing
            them.
        filter_cfg (dict | None): ``filter_empty_gt``, ``min_size``, as mmdet's; not in test mode.
        kwargs: as mmdet's CocoDataset.

    Raises:
        FileNotFoundError: the annotation file, an image or its infrared partner does not exist.
        ValueError: a part of the file that is missing or contradictory, a box of no extent or outside its image,
            classes that the file does not have, an argument that would not be used.
    """

    METAINFO = {}
    FILTERS = ('filter_empty_gt', 'min_size')

    def __init__(
        self,
        ann_file: str,
        data_prefix: dict,
        ir_name: tuple[str, str] | None = None,
        clip_boxes: bool = False,
        filter_cfg: dict | None = None,
        test_mode: bool = False,
        **kwargs,
    ):
        check_list_file(ann_file)
        check_keys('data_prefix', data_prefix, ('img', 'ir', 'seg'))
        if 'img' not in data_prefix:
            raise ValueError(f'data_prefix {dict(data_prefix)} names no visible folder, img')
        if ir_name is not None and not (
            isinstance(ir_name, list | tuple) and len(ir_name) == 2 and all(isinstance(text, str) for text in ir_name)
        ):
            raise ValueError(f'ir_name must be two texts, what to replace and by what, not {ir_name!r}')
        if ir_name is not None and 'ir' not in data_prefix:
            raise ValueError(f'ir_name={ir_name} has no effect without an infrared folder: data_prefix=dict(ir=...)')
        if 'seg' not in data_prefix:
            refuse(self, kwargs, {'seg_map_suffix': 'data_prefix names no folder of label maps, seg'})
        self._check_filters(filter_cfg, test_mode)
        self.ir_name = ir_name
        self.clip_boxes = clip_boxes
        super().__init__(
            ann_file=ann_file, data_prefix=data_prefix, filter_cfg=filter_cfg, test_mode=test_mode, **kwargs
        )

    def load_data_list(self) -> list[dict]:
        if not fileio.exists(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(f'{self.ann_file} does not exist: set data_root (now {self.data_root}) or ann_file')
        content = read_coco(self.ann_file, self.test_mode, self.backend_args)
        self._choose(content['categories'])
        self._count_files(content['images'])
        annotations = content['annotations']
        self.cat_img_map = defaultdict(list)  # what mmdet's filter_data asks for
        for image, boxes in annotations.items():
            for box in boxes:
                self.cat_img_map[box['category_id']].append(image)
        return self._load_each(
            [
                {'raw_img_info': {**image, 'img_id': image['id']}, 'raw_ann_info': annotations[image['id']]}
                for image in content['images']
            ]
        )

    def _choose(self, categories: dict[int, str]) -> None:
        """Fix which category each class is: ``cat_ids[label]`` and ``cat2label[id]``."""
        self._categories = categories
        ids = {name: number for number, name in categories.items()}
        classes = self._metainfo.setdefault('classes', tuple(ids))
        self._metainfo.setdefault('palette', CocoDataset.METAINFO['palette'][: len(classes)])
        unknown = [name for name in classes if name not in ids]
        if unknown:
            raise ValueError(
                f'{self.ann_file} has no category {", ".join(unknown)} of metainfo.classes: it has '
                f'{listed(ids, unknown[0])}'
            )
        self.cat_ids = [ids[name] for name in classes]
        self.cat2label = {number: label for label, number in enumerate(self.cat_ids)}

    def _count_files(self, images: list[dict]) -> None:
        """List the folders; say which files are in no pair of the annotations."""
        self._names = {
            key: set(list_folder(self.data_prefix[key], self.data_root, self.backend_args, recursive=True))
            for key in ('img', 'ir')
            if key in self.data_prefix
        }
        here = self._names['img']
        pictures = {name for name in here if osp.splitext(name)[1].lower() in IMAGES}
        left = {'img': here - pictures}
        if 'ir' in self._names:
            if osp.normpath(self.data_prefix['img']) == osp.normpath(self.data_prefix['ir']):  # told apart by ir_name
                pictures -= {self._partner(name) for name in pictures if self._partner(name) != name}
            else:
                left['ir'] = self._names['ir'] - {self._partner(name) for name in pictures}
        for key, names in left.items():
            if names:
                warn(f'{self.data_prefix[key]}: {count(sorted(names), "file", "files")} not used: of no visible image')
        unlisted = pictures - {osp.normpath(image['file_name']) for image in images}
        if unlisted:
            folder = self.data_prefix['img']
            inform(f'{len(unlisted)} of {len(pictures)} images in {folder} are not listed in {self.ann_file}')

    def _partner(self, name: str) -> str:
        return name.replace(*self.ir_name) if self.ir_name else name

    def parse_data_info(self, raw_data_info: dict) -> dict:
        image = raw_data_info['raw_img_info']
        path = self._listed('img', image['file_name'], 'an image')
        if image['width'] is None or image['height'] is None:
            image['width'], image['height'] = self._size(path)
        boxes = [box for box in raw_data_info['raw_ann_info'] if self._is_used(box, image['width'], image['height'])]
        info = super().parse_data_info({**raw_data_info, 'raw_ann_info': boxes})
        info['ann_path'] = self.ann_file
        if 'ir' in self.data_prefix:
            if self.ir_name and self.ir_name[0] not in image['file_name']:
                raise ValueError(
                    f'{image["file_name"]} of {self.ann_file} has no {self.ir_name[0]} for ir_name to replace'
                )
            partner = self._partner(image['file_name'])
            info['ir_path'] = self._listed('ir', partner, f'the infrared partner of {image["file_name"]},')
            if osp.normpath(info['ir_path']) == osp.normpath(path):
                raise ValueError(f'{path} would be its own infrared partner: set data_prefix.ir or ir_name')
        return info

    def _is_used(self, box: dict, width: int, height: int) -> bool:
        """Check a box, and clip it; whether mmdet takes it, and if not, count why."""
        x, y, w, h = box['bbox']
        inside = check_box([x, y, x + w, y + h], width, height, box['where'], self.clip_boxes)
        if inside is None:
            why = BESIDE
        elif box['category_id'] not in self.cat2label:
            why = f'{self._categories[box["category_id"]]} is not in metainfo.classes'
        elif box.get('ignore'):
            why = 'marked as ignore'
        elif min(inside[2] - inside[0], inside[3] - inside[1]) < 1:
            why = 'thinner than a pixel'
        else:
            box['bbox'] = [*inside[:2], inside[2] - inside[0], inside[3] - inside[1]]
            return True
        self._left_out[why] += 1
        return False

    def _listed(self, key: str, name: str, what: str) -> str:
        path = osp.join(self.data_prefix[key], name)
        if osp.normpath(name) not in self._names[key] and not fileio.exists(path, backend_args=self.backend_args):
            raise FileNotFoundError(f'{self.data_prefix[key]} holds no {name}, {what} listed in {self.ann_file}')
        return path
