"""Boxes of annotation files, held against their image and against themselves."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

from .faults import fault


class Boxed(NamedTuple):
    """An object of an annotation file: its class, its box x0, y0, x1, y1 in pixels from 0, whether to ignore it.

    The box is None where clipping leaves nothing of it.
    """

    name: str
    box: list[float] | None
    ignored: bool


def check_box(
    box: Sequence[float], width: int, height: int, where: str, clip: bool, slack: float = 1.0
) -> list[float] | None:
    """A box that a model can learn.

    Args:
        box (Sequence[float]): x0, y0, x1, y1 in pixels.
        width, height (int): of the image, in pixels.
        where (str): the file and the object, for errors.
        clip (bool): whether boxes that reach beyond their image are clipped instead of refused.
        slack (float): by how many pixels a box may reach beyond its image unclipped.

    Returns:
        list | None: the box; None where clipping leaves nothing of it, or where a fault was gathered.

    Raises:
        ValueError: coordinates that are no finite numbers, corners in the wrong order or of no distance, a box that
            leaves its image or lies beside it.
    """
    if len(box) != 4 or not all(isinstance(value, Real) and math.isfinite(value) for value in box):
        fault(ValueError(f'{where}: the box {list(box)} is not four finite numbers: correct or remove it'))
        return None
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        what = 'its corners exchanged' if x1 < x0 or y1 < y0 else 'no width or no height'
        fault(ValueError(f'{where}: the box ({_said(box)}) has {what}: correct or remove it'))
        return None
    inside = [max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)]
    nothing = inside[2] <= inside[0] or inside[3] <= inside[1]
    if clip:
        return None if nothing else inside
    if nothing or min(x0, y0) < -slack or x1 > width + slack or y1 > height + slack:
        told = f'{where}: the box ({_said(box)}) lies outside its image of {width}x{height}'
        fault(ValueError(f'{told}: correct it, or set clip_boxes=True'))
        return None
    return list(box)


def _said(box: Sequence[float]) -> str:
    return ', '.join(f'{value:g}' for value in box)
