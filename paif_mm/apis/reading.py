"""Pairs as they come, files or arrays, as what a test pipeline starts from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from paif_mm.data.loading import LoadPairFromFile, check_finite, in_colour, in_grey

from .pairs import Pair, Source, source_of
from .registration import Registration, checkerboard
from .results import ALIGNED, spared, write_image

PERCENTILES = (0.5, 99.5)  # of infrared values, that 'auto' makes 0 and 255


def loader_of(config: Mapping) -> dict:
    """Settings of ``LoadPairFromFile`` in a config's test pipeline; none where it has no such loader."""
    transforms = config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', [])
    loaders = (one for one in transforms if one['type'].split('.')[-1] == LoadPairFromFile.__name__)
    return {key: value for key, value in next(loaders, {}).items() if key != 'type'}


def open_pairs(
    inputs, loader: Mapping, ir_range=None, align=None, written: Sequence[Path] = ()
) -> tuple[Source, 'PairReader']:
    """Pairs as a user gives them, and what reads them.

    Args:
        inputs: see :func:`~.pairs.source_of`.
        loader, ir_range, align: see :class:`PairReader`.
        written: folders of the results, see :func:`~.results.spared`; in the first one, ``aligned/`` with
            checkerboards of what ``align`` made of pairs.

    Raises:
        ValueError: videos of two sizes, and nothing that aligns them; else as those say.
    """
    boards = written[0] / ALIGNED if written and align is not None else None
    source = spared(source_of(inputs), *written, *([boards] if boards else []))
    reader = PairReader(loader, ir_range, align, boards)
    if source.sizes:
        reader.registration.check(*source.sizes, 'the first frame')
    return source, reader


@contextmanager
def naming(name: str, size: tuple[int, int]) -> Iterator[None]:
    """Let what refuses a pair of this height and width, as models refuse small ones, name it.

    Raises:
        ValueError: it was refused.
    """
    try:
        yield
    except (RuntimeError, ValueError, AssertionError, cv2.error) as error:
        reason = str(error).strip().partition('\n')[0]
        raise ValueError(
            f'{name}, {size[0]}x{size[1]} (height x width), can not be passed through the model: '
            f'{type(error).__name__}: {reason}'
        ) from error


class PairReader:
    """Reads pairs with the loader of a config.

    Args:
        loader (dict): see :func:`loader_of`.
        ir_range (tuple | str | None): infrared values that become 0 and 255, of images of more than 8 bits, in place of
            the loader's. ``'auto'``: the percentiles .5 and 99.5 of the first such image in which they differ, for all
            that follow: a guess, for looking at pictures; evaluations declare their range.
        align: see :class:`~.registration.Registration`.
        boards (Path | None): folder of ``NAME.jpg``, which show what that made of pairs, of the first one for all that
            are aligned alike (:func:`~.registration.checkerboard`). Default: nowhere.

    Attributes:
        notes (list[str]): what was estimated, what was not used, and where to look.
        registration (Registration): what aligns.

    Raises:
        ValueError: an ``ir_range`` that is none.
    """

    def __init__(
        self,
        loader: Mapping,
        ir_range: tuple[float, float] | str | None = None,
        align=None,
        boards: Path | None = None,
    ):
        self._estimates = ir_range == 'auto'
        if isinstance(ir_range, str) and not self._estimates:
            raise ValueError(f"ir_range is (low, high) or 'auto', not {ir_range!r}")
        self._settings = dict(loader)
        self._loader = self._deep = LoadPairFromFile(**self._settings)  # of 8 bits, and of more
        self._declared = ir_range is not None and not self._estimates
        if self._declared:
            self._deep = self._with_range(*ir_range)
        self.registration = Registration(align)
        self._boards = boards
        self.notes: list[str] = []

    def __call__(self, pair: Pair) -> dict:
        """The results of a loading transform: ``img`` HxWx4 and what is known of it.

        Raises:
            FileNotFoundError: a file does not exist.
            ValueError: it can not be read, or the two do not go together.
        """
        path = pair.visible if isinstance(pair.visible, str) else pair.name
        results = {'img_path': path, 'sample_idx': 0, 'img_id': 0, 'seg_fields': [], 'reduce_zero_label': False}
        if pair.infrared is None and isinstance(pair.visible, str):
            self._tell_unused(path)
            return self._loader(results)
        if pair.infrared is None:
            visible, infrared = self._split(_checked(pair.visible, pair.name), pair.name)
        elif isinstance(pair.visible, str):
            visible, infrared = self._loader.read_two(pair.visible, pair.infrared)
        else:
            visible = in_colour(_checked(pair.visible, f'{pair.name}, visible'), pair.name)
            infrared = in_grey(_checked(pair.infrared, f'{pair.name}, infrared'), pair.name)
        if infrared.dtype not in (np.uint8, np.uint16, np.float32):
            infrared = infrared.astype(np.float32)  # others can not be resized and warped
        before = self.registration.homography
        infrared = self.registration(visible, infrared, path)
        if before is None and self.registration.correlation is not None:
            self.notes.append(f'infrared images were aligned by ECC, correlation {self.registration.correlation:.2f}')
        image = self._joined(visible, infrared, path)
        if self._boards:
            self._show_alignment(image, pair.name)
        shape = image.shape[:2]
        return {**results, 'img': image, 'img_shape': shape, 'ori_shape': shape}

    def _show_alignment(self, image: np.ndarray, name: str) -> None:
        self._boards.mkdir(parents=True, exist_ok=True)
        write_image(path := self._boards / f'{name}.jpg', checkerboard(image[..., :3], image[..., 3]))
        if self.registration.method != 'ecc-each':
            self._boards = None
            self.notes.append(f'{path} shows how the infrared image lies on the visible one: squares of both in turns')

    def _joined(self, visible: np.ndarray, infrared: np.ndarray, path: str) -> np.ndarray:
        if infrared.dtype == np.uint8:
            self._tell_unused(path)
            return self._loader.joined(visible, infrared, path)
        if not self._estimates:
            return self._deep.joined(visible, infrared, path)
        low, high = _estimated(infrared, path)
        self._deep, self._estimates = self._with_range(low, high), False
        self.notes.append(
            f'infrared values {low:g} to {high:g} (percentiles {PERCENTILES[0]} and {PERCENTILES[1]} of {path}) became '
            f'0 to 255 by ir_range="auto"; to repeat this on other images: ir_range=({low:g}, {high:g})'
        )
        return self._deep.joined(visible, infrared, path)

    def _with_range(self, low: float, high: float) -> LoadPairFromFile:
        return LoadPairFromFile(**{**self._settings, 'ir_range': (float(low), float(high))})

    def _tell_unused(self, path: str) -> None:
        """Say, of the first one, that a declared range is not for images of 8 bits."""
        if self._declared:
            self._declared = False
            low, high = self._deep.ir_range
            self.notes.append(
                f'infrared images of 8 bits, {path} the first of them, were taken as they are: ir_range=({low:g}, '
                f'{high:g}) is for those of more bits'
            )

    def _split(self, image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        if image.ndim != 3 or image.shape[2] != 4:
            raise ValueError(f'{name}: an array without a partner is HxWx4 (B,G,R,IR), not {image.shape}')
        return image[..., :3], image[..., 3]


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    """An array that is an image: HxW for HxWx1.

    Raises:
        ValueError: it has other axes, no pixels, or values that are no numbers.
    """
    if not image.size or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ValueError(f'{name}: an image is an array HxW, HxWx1, HxWx3 or HxWx4 with pixels, not {image.shape}')
    if image.dtype.kind not in 'uif':
        raise ValueError(f'{name}: an image holds numbers, not {image.dtype}')
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def _estimated(infrared: np.ndarray, path: str) -> tuple[float, float]:
    """The values that 'auto' makes 0 and 255.

    Raises:
        ValueError: pixels are not finite, or nearly all are alike, as of a closed shutter.
    """
    check_finite(infrared, path)
    low, high = (float(value) for value in np.percentile(infrared, PERCENTILES))
    if low == high:
        raise ValueError(
            f'{path}: nearly all infrared values are {low:g}, from which ir_range="auto" estimates none: give '
            'ir_range=(low, high), or begin with an image that shows something'
        )
    return low, high
