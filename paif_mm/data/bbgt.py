"""Annotations as text, an object a line, as KAIST's and other pedestrian data sets have them."""

from .boxes import Boxed, check_box
from .listing import read_lines

IGNORED = 10  # place of the flag among a line's values


def bbgt_objects(
    path: str, width: int, height: int, clip: bool, border: int = 0, backend_args: dict | None = None
) -> list[Boxed]:
    """The objects of an image of ``width`` x ``height`` pixels, from within the ``border`` that is cut off.

    A line is ``name x y w h``, in pixels from 0, perhaps followed by ``occluded``, the visible part's ``x y w h``,
    ``ignore`` and ``angle``; the first line says ``% bbGt version=3`` (source: the format of Piotr Dollar's toolbox,
    bbGt.m).

    Raises:
        ValueError: no text, a line of another form, or a box that :func:`check_box` refuses.
    """
    objects = []
    for place, line in enumerate(read_lines(path, backend_args), 1):
        if line.startswith('%'):
            continue
        name, *values = line.split()
        where = f'{path}: line {place} ({name})'
        try:
            x, y, w, h, *more = map(float, values)
        except ValueError:
            raise ValueError(f'{where} is {line!r}: expected a name, then the numbers x, y, w and h') from None
        ignored = more[IGNORED - 5] if len(more) > IGNORED - 5 else 0
        if ignored not in (0, 1):
            raise ValueError(f'{where} has the ignore flag {ignored:g}: write 0 or 1')
        corners = [value - border for value in (x, y, x + w, y + h)]
        objects.append(Boxed(name, check_box(corners, width, height, where, clip), bool(ignored)))
    return objects
