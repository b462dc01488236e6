"""Infrared images brought onto visible ones of another size or view, before they are fused."""

import json
from pathlib import Path

import cv2
import numpy as np

METHODS = ('resize', 'ecc', 'ecc-each')
LEAST_CORRELATION = 0.38  # of gradients, below which an alignment is refused
LEVELS = 4  # of the pyramid in which ECC is run, each of half the size
SIDE = 640  # pixels of the longer side, at most, that ECC sees


class Registration:
    """Maps infrared images to the view and the size of visible ones.

    Args:
        method (str | ndarray | None): ``'resize'``: both show the same section; ``'ecc'``: the affine map that
            maximises the enhanced correlation coefficient (Evangelidis and Psarakis, TPAMI 2008, OpenCV's) of the
            gradients' magnitudes, found once, from the first pair, as for a rig; ``'ecc-each'``: for each pair; a path
            of a homography (JSON, or text of 3x3 numbers) or an array (3, 3), from pixels of the visible image to those
            of the infrared one. None: pairs of two sizes are refused.

    Attributes:
        homography (ndarray | None): the last one, (3, 3). It maps pixels, so that it holds for pairs of the sizes of
            the first one alone.
        correlation (float | None): what ECC reached with it, in [-1, 1].

    Raises:
        ValueError: no such method, or no homography.
        FileNotFoundError: no such file.
    """

    def __init__(self, method: str | np.ndarray | None = None):
        self.homography, self.correlation = None, None
        if isinstance(method, str | Path) and str(method) not in METHODS:
            method = read_homography(method)
        elif method is not None and not isinstance(method, str):
            method = np.asarray(method, np.float64)
        if isinstance(method, np.ndarray):
            if method.shape != (3, 3) or not np.isfinite(method).all():
                raise ValueError(f'a homography is a finite array (3, 3), not {method.shape}')
            if np.linalg.matrix_rank(method) < 3:
                raise ValueError(f'a homography can be inverted, which this one can not: {method.tolist()}')
            self.homography, method = method, 'given'
        self.method, self._sizes = method, None

    def __call__(self, visible: np.ndarray, infrared: np.ndarray, name: str) -> np.ndarray:
        """The infrared image HxW in the view of the visible one; beyond its border its border pixels go on.

        Raises:
            ValueError: two sizes and no method, or an alignment that does not hold.
        """
        height, width = visible.shape[:2]
        self.check(visible.shape[:2], infrared.shape[:2], name)
        if self.method is None:
            return infrared
        if self.method == 'resize':
            if visible.shape[:2] == infrared.shape[:2]:
                return infrared
            shrinks = infrared.shape[0] > height
            return cv2.resize(infrared, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        if self.homography is None or self.method == 'ecc-each':
            self.homography, self.correlation = find_affine(visible, infrared)
            if self.correlation < LEAST_CORRELATION:
                found, self.homography = self.correlation, None
                raise ValueError(
                    f'{name}: the two images can not be aligned (correlation of gradients {found:.2f}, below '
                    f'{LEAST_CORRELATION}): calibrate the cameras and give the homography as a file'
                )
        self._sizes = visible.shape[:2], infrared.shape[:2]
        return cv2.warpPerspective(
            infrared,
            self.homography,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def check(self, visible: tuple[int, int], infrared: tuple[int, int], name: str) -> None:
        """Refuse sizes (height, width) that nothing brings together.

        Raises:
            ValueError: they are two and there is no method, or others than those of the homography.
        """
        told = f'{name}: the visible image is {_said(visible)}, the infrared one {_said(infrared)} (height x width)'
        if self.method is None and visible != infrared:
            raise ValueError(
                f'{told}: give align="resize" where both show the same section, "ecc" where they do not, or a file of '
                'a homography'
            )
        if self.method in ('ecc', 'given') and self._sizes not in (None, (visible, infrared)):
            raise ValueError(
                f'{told}, but the homography is used for {_said(self._sizes[0])} and {_said(self._sizes[1])}: align '
                'pairs of other sizes by themselves, by "ecc-each" or a homography of their own'
            )


def _said(size: tuple[int, int]) -> str:
    return f'{size[0]}x{size[1]}'


def find_affine(visible: np.ndarray, infrared: np.ndarray) -> tuple[np.ndarray, float]:
    """Affine map (3, 3) from pixels of the visible image to those of the infrared one, and its correlation.

    ECC from coarse to fine, started from both images showing the same section. (On pairs with known maps, homographies
    were further off: their two more degrees of freedom follow what one sensor alone sees.) The correlation is 0 where
    ECC finds none.
    """
    scale = min(1.0, SIDE / max(visible.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in visible.shape[1::-1])
    grey = cv2.cvtColor(visible, cv2.COLOR_BGR2GRAY) if visible.ndim == 3 else visible
    edges = [gradients(cv2.resize(image, size, interpolation=cv2.INTER_AREA)) for image in (grey, infrared)]
    warp, correlation = np.eye(3, dtype=np.float32), 0.0
    levels = max(1, min(LEVELS, int(np.log2(max(2, min(size) / 24))) + 1))
    try:
        for level in reversed(range(levels)):
            shrunk = tuple(max(8, side >> level) for side in size)
            first, second = (cv2.resize(edge, shrunk, interpolation=cv2.INTER_AREA) for edge in edges)
            to_level = np.diag([shrunk[0] / size[0], shrunk[1] / size[1], 1.0])
            start = (to_level @ warp @ np.linalg.inv(to_level)).astype(np.float32)
            criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
            correlation, part = cv2.findTransformECC(first, second, start[:2], cv2.MOTION_AFFINE, criteria, None, 5)
            warp = np.linalg.inv(to_level) @ np.vstack([part, [0, 0, 1]]) @ to_level
    except cv2.error:  # it does not converge
        return np.eye(3), 0.0
    to_visible = np.diag([size[0] / visible.shape[1], size[1] / visible.shape[0], 1.0])
    to_infrared = np.diag([size[0] / infrared.shape[1], size[1] / infrared.shape[0], 1.0])
    homography = np.linalg.inv(to_infrared) @ warp @ to_visible
    return homography, float(correlation)


def gradients(image: np.ndarray) -> np.ndarray:
    """Magnitudes of the gradient of a grey image, float32 with mean 1: what both sensors show of an outline."""
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.5)
    magnitude = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return magnitude / max(float(magnitude.mean()), 1e-6)


def read_homography(path: str | Path) -> np.ndarray:
    """A homography (3, 3) from a JSON file (nine numbers, or ``{"homography": [[...]]}``) or from a text of numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no homography.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'align is one of {", ".join(METHODS)} or a file of a homography; {path} is no file')
    try:
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.json':
            content = json.loads(text)
            content = content.get('homography') if isinstance(content, dict) else content
        else:
            content = [float(word) for word in text.replace(',', ' ').split()]
        return np.asarray(content, np.float64).reshape(3, 3)
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} holds no homography, 3x3 numbers: {error}') from None


def checkerboard(visible: np.ndarray, infrared: np.ndarray, squares: int = 8) -> np.ndarray:
    """Squares of both in turns, uint8 HxWx3, in which outlines go on where a pair is aligned."""
    height, width = visible.shape[:2]
    side = max(1, max(height, width) // squares)
    rows, columns = np.arange(height)[:, None] // side, np.arange(width)[None] // side
    grey = np.clip(np.rint(infrared), 0, 255).astype(np.uint8)
    odd = ((rows + columns) % 2 == 1)[..., None]
    return np.where(odd, grey[..., None], np.clip(np.rint(visible), 0, 255).astype(np.uint8))
