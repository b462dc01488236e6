"""Loading of infrared-visible pairs and their labels, and photometric transforms that spare the infrared image."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, Compose
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations

from paif_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadPairFromFile(BaseTransform):
    """Load a registered pair as one image of four channels, so that every geometric transform moves both alike.

    Required keys: ``img_path``; ``ir_path`` where the infrared image is a file of its own.
    Added keys: ``img`` (HxWx4; B,G,R,IR in [0, 255]; uint8, or float32 with ``ir_range``) and its shapes.

    Without ``ir_path`` the file must be MFNet's kind of PNG, RGBA with the infrared image in the fourth channel.
    An infrared file may be grey or colour (its luminance is taken; equal channels come through unchanged).

    Args:
        ir_range (tuple[float, float] | None): the infrared values that become 0 and 255, linearly; values beyond are
            clipped. Required for infrared files of more than 8 bits: a range is declared, never guessed from the data.
        backend_args (dict | None): file backend, as in mmcv's LoadImageFromFile.

    Raises:
        FileNotFoundError: the image or its partner does not exist.
        ValueError: a file cannot be read, has no infrared channel or no declared range, or the sizes differ.
    """

    def __init__(self, ir_range: tuple[float, float] | None = None, backend_args: dict | None = None):
        if ir_range is not None and not ir_range[0] < ir_range[1]:
            raise ValueError(f'ir_range must be (low, high) with low < high, not {ir_range}')
        self.ir_range = ir_range
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        if results.get('ir_path'):
            image = self._load_two(results['img_path'], results['ir_path'])
        else:
            image = self._load_rgba(results['img_path'])
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _load_two(self, img_path: str, ir_path: str) -> np.ndarray:
        partner = _decoder().submit(self._read, ir_path, cv2.IMREAD_UNCHANGED, img_path)
        visible = self._read(img_path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        infrared = partner.result()
        if visible.shape[:2] != infrared.shape[:2]:
            raise ValueError(
                f'sizes differ: {img_path} is {_size(visible)} but its infrared partner {ir_path} is {_size(infrared)} '
                '(height x width): register and resize the pair first'
            )
        if infrared.ndim == 3:
            infrared = cv2.cvtColor(infrared[..., :3], cv2.COLOR_BGR2GRAY)
        infrared = self._to_pixels(infrared, ir_path)
        return _join(visible.astype(infrared.dtype, copy=False), infrared)

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
        low, high = self.ir_range
        return np.clip((infrared.astype(np.float32) - low) * (255 / (high - low)), 0, 255)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ir_range={self.ir_range}, backend_args={self.backend_args})'


@TRANSFORMS.register_module()
class LoadPairAnnotations(LoadAnnotations):
    """mmseg's LoadAnnotations that refuses labels which the dataset cannot mean.

    Required keys: mmseg's, ``img_path`` and ``ori_shape`` of the loaded image, ``num_labels`` of our datasets.

    Raises:
        FileNotFoundError: there is no such label file.
        ValueError: the file is no label map, a value is neither a class nor the ignored 255, or the label's size is
            not the image's.
    """

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        try:
            super()._load_seg_map(results)
        except FileNotFoundError:
            raise FileNotFoundError(f'{path} does not exist: the label of {results["img_path"]} is missing') from None
        except (OSError, SyntaxError) as error:  # what Pillow raises on damaged files, without their name
            raise ValueError(f'{path} cannot be read as a label: it is damaged or of an unknown format') from error
        labels, classes = results['gt_seg_map'], results['num_labels']
        if labels.ndim != 2:
            raise ValueError(f'{path} has {labels.shape[2]} channels: a label is a grey png of class numbers')
        wrong = np.unique(labels[(labels >= classes) & (labels != 255)])
        if len(wrong):
            raise ValueError(
                f'{path} holds the label value(s) {", ".join(map(str, wrong))}: expected 0 to {classes - 1}, or 255 '
                'for ignored pixels'
            )
        if labels.shape != tuple(results['ori_shape']):
            raise ValueError(
                f'{path} is {_size(labels)} (height x width) but its image {results["img_path"]} is '
                f'{results["ori_shape"][0]}x{results["ori_shape"][1]}'
            )


@TRANSFORMS.register_module()
class VisibleOnly(BaseTransform):
    """Apply photometric transforms to the visible channels of a pair; the infrared one stays as it is, bit for bit.

    The pair keeps its type and its range [0, 255]: mmdet's PhotoMetricDistortion, for one, goes beyond both.

    Args:
        transforms (list[dict]): transforms that change the values of ``img`` and nothing else, e.g. mmseg's
            PhotoMetricDistortion. They see a BGR uint8 image.

    Raises:
        ValueError: an inner transform changed the size, or anything but ``img``: only photometric ones belong here.
    """

    def __init__(self, transforms: list[dict]):
        self.transforms = Compose(transforms)

    def transform(self, results: dict) -> dict:
        pair = _packed(results['img'])
        visible = _saturated(cv2.cvtColor(pair, cv2.COLOR_BGRA2BGR), np.uint8)
        inner = self.transforms({**results, 'img': visible})
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
        # Channel by channel in memory, as tensors are: packing, usually next, is then free instead of a slow copy.
        planes = np.empty((4, *pair.shape[:2]), pair.dtype)
        cv2.mixChannels([_saturated(changed, pair.dtype), pair], list(planes), [0, 0, 1, 1, 2, 2, 6, 3])
        results['img'] = planes.transpose(1, 2, 0)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'


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


def _packed(pair: np.ndarray) -> np.ndarray:
    """The pair in contiguous memory. mmcv flips by negative strides: copying whole pixels is then 15 times as fast."""
    if pair.flags.c_contiguous or pair.strides[2] != pair.itemsize:
        return np.ascontiguousarray(pair)
    return np.ascontiguousarray(pair.view(f'V{4 * pair.itemsize}')).view(pair.dtype)


def _saturated(image: np.ndarray, dtype) -> np.ndarray:
    """The image as uint8 or float32, its values brought back into [0, 255] (and rounded for uint8)."""
    if image.dtype == dtype == np.uint8:
        return image
    if dtype == np.uint8:
        return cv2.add(image, 0, dtype=cv2.CV_8U)  # rounds and saturates in one pass
    return np.clip(image, 0, 255).astype(dtype)


def _size(image: np.ndarray) -> str:
    return f'{image.shape[0]}x{image.shape[1]}'
