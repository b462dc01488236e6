"""Loading of infrared-visible pairs and their labels, and photometric transforms that spare the infrared image."""

import math
import os
import os.path as osp
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, Compose
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from paif_mm.registry import TRANSFORMS

from .colour import VISIBLE
from .listing import warn

JPEG = b'\xff\xd8'
ORIENTATION = 0x0112  # EXIF's tag


@TRANSFORMS.register_module()
class LoadPairFromFile(BaseTransform):
    """Load a registered pair as one image of four channels, so that every geometric transform moves both alike.

    Required keys: ``img_path``; ``ir_path`` where the infrared image is a file of its own; or ``img``, a loaded pair
    HxWx4. Optional: ``height`` and ``width``, what the annotations say (and ``ann_path``, where); ``border``, how many
    pixels are cut off at each side before that.
    Added keys: ``img`` (HxWx4; B,G,R,IR in [0, 255]; uint8, or float32 with ``ir_range``) and its shapes.

    Without ``ir_path`` the file must be MFNet's kind of PNG, RGBA with the infrared image in the fourth channel.
    An infrared file may be grey or colour (its luminance is taken; equal channels come through unchanged). Pixels are
    taken as they are stored: EXIF's orientation is not followed, and of a file of several pages the first is read.
    These are told of where a folder's first file has them; an alpha channel beside an infrared file, and infrared files
    whose colours differ, once per folder.

    Args:
        ir_range (tuple[float, float] | None): the infrared values that become 0 and 255, linearly; values beyond are
            clipped. Required for infrared files of more than 8 bits: a range is declared, never guessed from the data.
        backend_args (dict | None): file backend, as in mmcv's LoadImageFromFile.

    Raises:
        FileNotFoundError: the image or its partner does not exist.
        ValueError: a file cannot be read, has no infrared channel or no declared range, infrared pixels that are not
            finite, or more than 8 bits per visible channel; or the sizes differ, also from the annotations'.
    """

    def __init__(self, ir_range: tuple[float, float] | None = None, backend_args: dict | None = None):
        if ir_range is not None and not _is_range(ir_range):
            raise ValueError(f'ir_range must be (low, high) with low < high, not {ir_range!r}')
        self.ir_range = ir_range
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        if results.get('img') is not None:
            image = self._take_loaded(results['img'], results.get('img_path') or 'the array')
        elif results.get('ir_path'):
            image = self._load_two(results['img_path'], results['ir_path'])
        else:
            image = self._load_rgba(results['img_path'])
        border = results.get('border', 0)
        if border:
            image = np.ascontiguousarray(image[border:-border, border:-border])
        _check_annotated_size(results, image)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _load_two(self, img_path: str, ir_path: str) -> np.ndarray:
        visible, infrared = self.read_two(img_path, ir_path)
        if visible.shape[:2] != infrared.shape[:2]:
            raise ValueError(
                f'sizes differ: {img_path} is {_size(visible)} but its infrared partner {ir_path} is {_size(infrared)} '
                '(height x width): register and resize the pair first'
            )
        return self.joined(visible, infrared, ir_path)

    def read_two(self, img_path: str, ir_path: str) -> tuple[np.ndarray, np.ndarray]:
        """Visible HxWx3 (B,G,R, uint8) and infrared HxW (as it is stored) of two files, whatever their sizes."""
        partner = _decoder().submit(self._read, ir_path, cv2.IMREAD_UNCHANGED, img_path)
        visible = in_colour(self._read(img_path, cv2.IMREAD_UNCHANGED), img_path)
        return visible, in_grey(partner.result(), ir_path)

    def joined(self, visible: np.ndarray, infrared: np.ndarray, ir_path: str) -> np.ndarray:
        """Two images of one size as a pair HxWx4."""
        infrared = self._to_pixels(infrared, ir_path)
        return _join(visible.astype(infrared.dtype, copy=False), infrared)

    def _take_loaded(self, image: np.ndarray, name: str) -> np.ndarray:
        if image.ndim != 3 or image.shape[2] != 4:
            raise ValueError(f'{name} is no pair: an array without a partner is HxWx4 (B,G,R,IR), not {image.shape}')
        return self.joined(image[..., :3], image[..., 3], name)

    def _load_rgba(self, img_path: str) -> np.ndarray:
        image = self._read(img_path, cv2.IMREAD_UNCHANGED)
        if image.ndim != 3 or image.shape[2] != 4:
            channels = 1 if image.ndim == 2 else image.shape[2]
            raise ValueError(
                f'{img_path} has {channels} channel(s) but no infrared one: give an RGBA png with infrared as fourth '
                'channel, or the infrared file as ir_path'
            )
        if image.dtype != np.uint8:
            raise ValueError(f'{img_path} is {image.dtype}: an RGBA pair must have 8 bits; split it into two files')
        if (image[::16, ::16, 3] == 255).all() and (image[..., 3] == 255).all():  # a few pixels tell, as a rule
            raise ValueError(
                f'{img_path} is an ordinary RGBA picture, opaque everywhere: its fourth channel holds no infrared image'
            )
        if self.ir_range is None:
            return image
        return _join(image[..., :3].astype(np.float32), self._to_pixels(image[..., 3], img_path))

    def _read(self, path: str, flags: int, partner_of: str | None = None) -> np.ndarray:
        try:
            data = fileio.get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            what = f'the infrared partner of {partner_of}' if partner_of else 'the image'
            raise FileNotFoundError(f'{path} does not exist: {what} is missing') from None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
        if image is None:
            raise ValueError(f'{path} cannot be read as an image: it is damaged or of an unknown format')
        _examine(path, data)
        return image

    def _to_pixels(self, infrared: np.ndarray, path: str) -> np.ndarray:
        """Infrared values as uint8, or as float32 in [0, 255] where a range was declared."""
        if self.ir_range is None:
            if infrared.dtype != np.uint8:
                raise ValueError(
                    f'{path} is {infrared.dtype}: declare the infrared values that mean black and white, '
                    "e.g. dict(type='paif_mm.LoadPairFromFile', ir_range=(0, 65535))"
                )
            return infrared
        check_finite(infrared, path)
        low, high = self.ir_range
        return np.clip((infrared.astype(np.float32) - low) * (255 / (high - low)), 0, 255)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ir_range={self.ir_range}, backend_args={self.backend_args})'


@TRANSFORMS.register_module()
class TakePair(BaseTransform):
    """What a user gives to an inferencer, as what :class:`LoadPairFromFile` takes: the first of its pipeline.

    A path of an RGBA file, two paths (visible, infrared), an array HxWx4 (B,G,R,IR), or a dict with ``img_path``, with
    ``img_path`` and ``ir_path``, or with ``img``.
    """

    def transform(self, given: str | os.PathLike | tuple | np.ndarray | dict) -> dict:
        results = given if isinstance(given, dict) else {'img' if isinstance(given, np.ndarray) else 'img_path': given}
        results = {'sample_idx': 0, 'img_id': 0, 'seg_fields': [], 'reduce_zero_label': False, **results}
        path = results.get('img_path')
        if isinstance(path, tuple | list):
            results['img_path'], results['ir_path'] = map(str, path)
        elif path is not None:
            results['img_path'] = str(path)
        return results


@TRANSFORMS.register_module()
class LoadPairAnnotations(LoadAnnotations):
    """mmseg's LoadAnnotations that refuses labels which the dataset cannot mean.

    Required keys: mmseg's, ``img_path`` and ``ori_shape`` of the loaded image, ``num_labels`` of our datasets. A pair
    without ``seg_map_path``, of a test set without labels or for inference, passes as it is.

    Raises:
        FileNotFoundError: there is no such label file.
        ValueError: the file is no label map, a value is neither a class nor the ignored 255, or the label's size is
            not the image's.
    """

    def transform(self, results: dict) -> dict:
        return super().transform(results) if 'seg_map_path' in results else results

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        labels = self._read(path, results['img_path'])
        reduced, classes = bool(results['reduce_zero_label']), results['num_labels']
        if self.reduce_zero_label not in (None, reduced):
            raise ValueError(f'reduce_zero_label={self.reduce_zero_label} is set here, but {reduced} in the data set')
        last = classes - 1 + reduced  # where zero is 'nothing', the classes count from 1
        unknown = (labels > last) & (labels != 255)
        if labels.dtype.kind == 'i':
            unknown |= labels < 0
        wrong = np.unique(labels[unknown])
        if len(wrong):
            raise ValueError(
                f'{path} holds the label value(s) {", ".join(map(str, wrong))}: expected 0 to {last}, or 255 '
                'for ignored pixels'
            )
        if labels.shape != tuple(results['ori_shape']):
            raise ValueError(
                f'{path} is {_size(labels)} (height x width) but its image {results["img_path"]} is '
                f'{results["ori_shape"][0]}x{results["ori_shape"][1]}'
            )
        label_map = tuple((results.get('label_map') or {}).items())
        results['gt_seg_map'] = cv2.LUT(labels.astype(np.uint8, copy=False), _numbers(label_map, reduced))
        results['seg_fields'].append('gt_seg_map')

    def _read(self, path: str, img_path: str) -> np.ndarray:
        """HxW, the values as they are in the file."""
        try:
            data = fileio.get(path, backend_args=self.backend_args)
            labels = mmcv.imfrombytes(data, flag='unchanged', backend=self.imdecode_backend)
        except FileNotFoundError:
            raise FileNotFoundError(f'{path} does not exist: the label of {img_path} is missing') from None
        except (OSError, SyntaxError) as error:  # what Pillow raises on damaged files, without their name
            raise ValueError(f'{path} cannot be read as a label: it is damaged or of an unknown format') from error
        if labels is None:
            raise ValueError(f'{path} cannot be read as a label: it is damaged or of an unknown format')
        if labels.ndim != 2:
            raise ValueError(f'{path} has {labels.shape[2]} channels: a label is a grey png of class numbers')
        if labels.dtype.kind not in 'bui':
            raise ValueError(f'{path} is {labels.dtype}: a label is a grey png of class numbers')
        if data.startswith(JPEG):
            _tell_once(path, 'is a JPEG, which changes class numbers at their borders: store labels without loss')
        # Pillow writes the ones of a one-bit image as 255 behind numpy's bools.
        return (labels.view(np.uint8) > 0).astype(np.uint8) if labels.dtype == bool else labels


@TRANSFORMS.register_module()
class VisibleOnly(BaseTransform):
    """Apply photometric transforms to the visible channels of a pair; the infrared one stays as it is, bit for bit.

    The pair keeps its type and its range [0, 255]: mmdet's PhotoMetricDistortion, for one, goes beyond both.

    Args:
        transforms (list[dict]): transforms that change the values of ``img`` and nothing else, e.g. mmseg's
            PhotoMetricDistortion. They see a BGR uint8 image.

    Raises:
        ValueError: the image is no pair; or an inner transform changed the size or anything but ``img``: only
            photometric ones belong here.
    """

    def __init__(self, transforms: list[dict]):
        self.transforms = Compose(transforms)

    def transform(self, results: dict) -> dict | None:
        if results['img'].ndim != 3 or results['img'].shape[2] != 4:
            raise ValueError(
                f'VisibleOnly needs a pair of 4 channels, but the image is of the shape {results["img"].shape}: load '
                "it with dict(type='paif_mm.LoadPairFromFile') instead of LoadImageFromFile, and put every photometric "
                'transform into VisibleOnly'
            )
        pair = _packed(results['img'])
        visible = _saturated(cv2.cvtColor(pair, cv2.COLOR_BGRA2BGR), np.uint8)
        inner = self.transforms({**results, 'img': visible})
        if inner is None:  # mmengine then draws another sample
            return None
        changed = inner.pop('img')
        if changed.shape != visible.shape:
            raise ValueError(
                f'a transform inside VisibleOnly turned {visible.shape} into {changed.shape}: geometric transforms '
                'belong outside, where they move both modalities'
            )
        # A flip keeps the shape, but leaves traces: a key of its own, or moved labels.
        for key, value in inner.items():
            if key not in results or not (value is results[key] or np.array_equal(value, results[key])):
                raise ValueError(
                    f'a transform inside VisibleOnly set {key!r}: geometric transforms belong outside, where they '
                    'move both modalities'
                )
        planes = np.empty((4, *pair.shape[:2]), pair.dtype)
        cv2.split(_saturated(changed, pair.dtype), list(planes[VISIBLE]))
        cv2.extractChannel(pair, 3, planes[3])
        results['img'] = planes.transpose(1, 2, 0)  # in planar layout
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'


@TRANSFORMS.register_module()
class PlanarLayout(BaseTransform):
    """Lay an image out channel by channel in memory, as tensors are. It stays what it was: HxWxC, with the same values.

    Packing then copies nothing. What it would do instead, pixel by pixel, takes several times as long; so this belongs
    just before the packing of a training pipeline. :class:`VisibleOnly` returns images in this layout, too.
    """

    def transform(self, results: dict) -> dict:
        image = results['img']
        if image.ndim == 3 and image.strides[2] == image.itemsize:
            planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
            cv2.split(_packed(image), list(planes))
            results['img'] = planes.transpose(1, 2, 0)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def _is_range(given: object) -> bool:
    if not isinstance(given, list | tuple) or len(given) != 2:
        return False
    return all(isinstance(value, int | float) for value in given) and given[0] < given[1]


def in_colour(visible: np.ndarray, path: str) -> np.ndarray:
    """A visible file as it was stored -> HxWx3."""
    if visible.dtype != np.uint8:
        raise ValueError(f'{path} is {visible.dtype}: a visible image must have 8 bits per channel; convert it')
    if visible.ndim == 2:
        return cv2.cvtColor(visible, cv2.COLOR_GRAY2BGR)
    if visible.shape[2] == 4:
        _tell_once(path, 'has an alpha channel, which is not used: infrared comes from a file of its own')
        return cv2.cvtColor(visible, cv2.COLOR_BGRA2BGR)
    return visible


def check_finite(infrared: np.ndarray, path: str) -> None:
    """Raises ValueError where pixels are not."""
    if infrared.dtype.kind == 'f' and not math.isfinite(cv2.sumElems(infrared)[0]):  # a sum takes no memory
        bad = infrared.size - np.count_nonzero(np.isfinite(infrared))
        raise ValueError(
            f'{path} holds {bad} pixel(s) of {infrared.size} that are NaN or infinite: replace them in the '
            'file, by the median of their neighbours for instance'
        )


def in_grey(infrared: np.ndarray, path: str) -> np.ndarray:
    """An infrared file as it was stored -> HxW."""
    if infrared.ndim == 2:
        return infrared
    if infrared.dtype not in (np.uint8, np.uint16, np.float32):
        raise ValueError(f'{path} has {infrared.shape[2]} channels of {infrared.dtype}: an infrared file must be grey')
    some = infrared[::16, ::16]
    if (some[..., :2] != some[..., 2:3]).any():
        _tell_once(path, 'is coloured: its luminance is taken for infrared, which is wrong for a false-colour map')
    elif infrared.shape[2] == 4:
        _tell_once(path, 'has an alpha channel, which is not used')
    return cv2.cvtColor(infrared[..., :3], cv2.COLOR_BGR2GRAY)


def _tell_once(path: str, what: str) -> None:
    """Warn of a file, and not of its folder's others that are alike."""
    key = (osp.dirname(path), what)
    if key not in _told:
        _told.add(key)
        warn(f'{path} {what} (told once per folder)')


_told: set[tuple[str, str]] = set()


def _examine(path: str, data: bytes) -> None:
    """Warn of what decoding leaves out, by the first file of each folder."""
    key = (osp.dirname(path), 'examined')
    if key in _told:
        return
    _told.add(key)
    try:
        image = Image.open(BytesIO(data))
    except OSError:  # a format that OpenCV, which does the reading, knows alone
        return
    if getattr(image, 'n_frames', 1) > 1:
        _tell_once(path, f'has {image.n_frames} pages, of which the first is read')
    if image.getexif().get(ORIENTATION, 1) != 1:
        _tell_once(path, "has EXIF's mark of a turned or mirrored image, which is not followed: pixels as stored")


def _check_annotated_size(results: dict, image: np.ndarray) -> None:
    height, width = (results.get(key, size) for key, size in zip(('height', 'width'), image.shape, strict=False))
    if (height, width) != image.shape[:2]:
        raise ValueError(
            f'{results["img_path"]} is {_size(image)} but {results.get("ann_path", "its annotation")} says '
            f'{height}x{width} (height x width): correct the annotation, or take the image that was annotated'
        )


@cache
def _decoder() -> ThreadPoolExecutor:
    """A second thread, in which the infrared file is read while the visible one is: OpenCV decodes without the GIL."""
    return ThreadPoolExecutor(1, 'decode infrared')


if hasattr(os, 'register_at_fork'):  # where processes fork, a data loader's worker starts its own thread
    os.register_at_fork(after_in_child=_decoder.cache_clear)


def _join(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """HxWx3 and HxW of one dtype -> HxWx4; a colour conversion makes room for the fourth channel fastest."""
    pair = cv2.cvtColor(visible, cv2.COLOR_BGR2BGRA)
    cv2.insertChannel(infrared, pair, 3)
    return pair


def _packed(image: np.ndarray) -> np.ndarray:
    """HxWxC in contiguous memory. mmcv flips by negative strides: copying whole pixels is then 15 times as fast."""
    if image.flags.c_contiguous or image.strides[2] != image.itemsize:
        return np.ascontiguousarray(image)
    return np.ascontiguousarray(image.view(f'V{image.shape[2] * image.itemsize}')).view(image.dtype)


def _saturated(image: np.ndarray, dtype) -> np.ndarray:
    """The image as uint8 or float32, its values brought back into [0, 255] (and rounded for uint8)."""
    if image.dtype == dtype == np.uint8:
        return image
    if dtype == np.uint8:
        return cv2.add(image, 0, dtype=cv2.CV_8U)  # rounds and saturates in one pass
    return np.clip(image, 0, 255).astype(dtype)


@cache
def _numbers(label_map: tuple[tuple[int, int], ...], reduced: bool) -> np.ndarray:
    """What each of the 256 values of a label file becomes: zero taken off first, then the map."""
    values = np.arange(256)
    if reduced:
        values = np.where((values == 0) | (values == 255), 255, values - 1)
    return np.array([dict(label_map).get(value, value) for value in values.tolist()], np.uint8)


def _size(image: np.ndarray) -> str:
    return f'{image.shape[0]}x{image.shape[1]}'
