"""Pairs as they come, files or arrays, as what a test pipeline starts from."""

from collections.abc import Mapping

import numpy as np

from paif_mm.data.loading import LoadPairFromFile, in_colour, in_grey

from .pairs import Pair
from .registration import Registration

PERCENTILES = (0.5, 99.5)  # of infrared values, that 'auto' makes 0 and 255


def loader_of(config: Mapping) -> dict:
    """Settings of ``LoadPairFromFile`` in a config's test pipeline; none where it has no such loader."""
    transforms = config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', [])
    loaders = (one for one in transforms if one['type'].split('.')[-1] == LoadPairFromFile.__name__)
    return {key: value for key, value in next(loaders, {}).items() if key != 'type'}


class PairReader:
    """Reads pairs with the loader of a config.

    Args:
        loader (dict): see :func:`loader_of`.
        ir_range (tuple | str | None): infrared values that become 0 and 255, in place of the loader's. ``'auto'``: the
            percentiles .5 and 99.5 of the first pair whose infrared image has more than 8 bits, for all that follow:
            a guess, for looking at pictures; evaluations declare their range.
        align: see :class:`~.registration.Registration`.

    Attributes:
        notes (list[str]): what was estimated.

    Raises:
        ValueError: an ``ir_range`` that is none.
    """

    def __init__(self, loader: Mapping, ir_range: tuple[float, float] | str | None = None, align=None):
        settings = dict(loader)
        self._estimates = ir_range == 'auto'
        if isinstance(ir_range, str) and not self._estimates:
            raise ValueError(f"ir_range is (low, high) or 'auto', not {ir_range!r}")
        if ir_range is not None and not self._estimates:
            settings['ir_range'] = tuple(map(float, ir_range))
        self._loader = LoadPairFromFile(**settings)
        self._registration = Registration(align)
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
            return self._loader(results)
        if pair.infrared is None:
            visible, infrared = self._split(pair.visible, pair.name)
        elif isinstance(pair.visible, str):
            visible, infrared = self._loader.read_two(pair.visible, pair.infrared)
        else:
            visible, infrared = in_colour(pair.visible, pair.name), in_grey(pair.infrared, pair.name)
        before = self._registration.homography
        infrared = self._registration(visible, infrared, path)
        if before is None and self._registration.correlation is not None:
            self.notes.append(f'infrared images were aligned by ECC, correlation {self._registration.correlation:.2f}')
        if self._estimates and infrared.dtype != np.uint8:
            self._estimate(infrared, path)
        image = self._loader.joined(visible, infrared, path)
        shape = image.shape[:2]
        return {**results, 'img': image, 'img_shape': shape, 'ori_shape': shape}

    def _split(self, image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        if image.ndim != 3 or image.shape[2] != 4:
            raise ValueError(f'{name}: an array without a partner is HxWx4 (B,G,R,IR), not {image.shape}')
        return image[..., :3], image[..., 3]

    def _estimate(self, infrared: np.ndarray, path: str) -> None:
        finite = infrared[np.isfinite(infrared)] if infrared.dtype.kind == 'f' else infrared
        if not finite.size:
            raise ValueError(f'{path}: no infrared pixel is finite')
        low, high = (float(value) for value in np.percentile(finite, PERCENTILES))
        self._loader.ir_range = (low, max(high, low + 1e-6))
        self._estimates = False
        self.notes.append(
            f'infrared values {low:g} to {high:g} (percentiles {PERCENTILES[0]} and {PERCENTILES[1]} of {path}) became '
            f'0 to 255 by ir_range="auto"; to repeat this on other images: ir_range=({low:g}, {high:g})'
        )
