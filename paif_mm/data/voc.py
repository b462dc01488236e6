"""Annotations in Pascal VOC's XML."""

import xml.etree.ElementTree as ET

from mmengine import fileio

from .boxes import Boxed, check_box


def read_voc(path: str, backend_args: dict | None = None) -> ET.Element:
    """The root of an annotation file.

    Raises:
        ValueError: it is no XML, or in an encoding of several bytes other than UTF-8 and UTF-16.
    """
    try:
        return ET.fromstring(fileio.get(path, backend_args=backend_args))
    except (ET.ParseError, ValueError, LookupError) as error:
        raise ValueError(f'{path} cannot be read as a VOC annotation, save it as XML in UTF-8: {error}') from None


def voc_size(root: ET.Element, path: str) -> tuple[int, int] | None:
    """(width, height) as the file says; None where it does not."""
    size = root.find('size')
    if size is None:
        return None
    width, height = (_number(size, side, f'{path}: its size') for side in ('width', 'height'))
    if min(width, height) < 1 or width % 1 or height % 1:
        raise ValueError(f'{path}: its size says {width:g}x{height:g} pixels: correct it, or remove the size')
    return int(width), int(height)


def voc_objects(root: ET.Element, path: str, width: int, height: int, clip: bool, border: int = 0) -> list[Boxed]:
    """The objects of an image of ``width`` x ``height`` pixels, those marked as difficult to be ignored.

    VOC counts pixels from 1, we from 0, and from within the ``border`` that is cut off. KAIST's files have the parts x,
    y, w and h instead, from 0; DroneVehicle's have the four corners of a turned box, which the box encloses.

    Raises:
        ValueError: a part is missing or no number; or the box is refused by :func:`check_box`.
    """
    objects = []
    for place, element in enumerate(root.findall('object'), 1):
        name = (element.findtext('name') or '').strip()
        where = f'{path}: object {place} ({name or "without a name"})'
        box, polygon = element.find('bndbox'), element.find('polygon')
        if not name or (box is None and polygon is None):
            raise ValueError(f'{where} has no {"bndbox" if name else "name"}')
        if box is None:
            xs, ys = ([_number(polygon, f'{axis}{corner}', where) - 1 for corner in range(1, 5)] for axis in 'xy')
            corners = [min(xs), min(ys), max(xs), max(ys)]
        elif box.find('w') is not None:
            x, y, w, h = (_number(box, part, where) for part in ('x', 'y', 'w', 'h'))
            corners = [x, y, x + w, y + h]
        else:
            corners = [_number(box, part, where) - 1 for part in ('xmin', 'ymin', 'xmax', 'ymax')]
        difficult = (element.findtext('difficult') or '0').strip()
        if difficult not in ('0', '1'):
            raise ValueError(f'{where}: difficult is {difficult!r}: write 0 or 1')
        corners = [value - border for value in corners]
        objects.append(Boxed(name, check_box(corners, width, height, where, clip), difficult == '1'))
    return objects


def _number(parent: ET.Element, part: str, where: str) -> float:
    text = parent.findtext(part)
    try:
        return float(text)
    except (TypeError, ValueError):
        raise ValueError(f'{where} has {"no " + part if text is None else f"{part}={text!r}, no number"}') from None
