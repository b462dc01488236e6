"""How the files of one sample are called, each in the folder of its role."""

import re
from collections.abc import Collection
from functools import cached_property

#: The endings of each role's files, in lower case; images have the first ones.
IMAGES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')
ENDINGS = {'xml_path': ('.xml',), 'txt_path': ('.txt',)}
ANY = tuple(dict.fromkeys([*IMAGES, *(ending for endings in ENDINGS.values() for ending in endings)]))


class Naming:
    """A pattern of file names, in which each ``*`` is a part of the sample's id.

    ``*`` is a file in the folder itself, called as its sample; ``*_RGB`` is ``a_RGB.jpg`` for the sample ``a``;
    ``*/*/visible/*`` is ``set00/V000/visible/I00001.jpg`` for the sample ``set00/V000/I00001``: the id is what the
    stars stand for, joined by slashes, and no star goes beyond a slash.

    Args:
        role (str): what the files are: ``img_path``, ``ir_path``, ``seg_map_path``, ``xml_path`` or ``txt_path``.
        pattern (str): the name below the folder, with slashes. Without an ending, any of the role's is meant, in either
            case.

    Raises:
        ValueError: a pattern without a star, or of another ending than the role's files have.
    """

    def __init__(self, role: str, pattern: str = '*'):
        if not isinstance(pattern, str):
            raise ValueError(f'names.{role} must be a text with a * for the id, as *_RGB has, not {pattern!r}')
        self.role, self.pattern = role, pattern
        self.stem, self.endings = pattern, ENDINGS.get(role, IMAGES)
        given = ending_of(pattern, ANY)
        if given:
            self.stem, self.endings = pattern[: -len(given)], (given.lower(),)
        if '*' not in self.stem or not set(self.endings) <= set(ENDINGS.get(role, IMAGES)):
            raise ValueError(
                f'names.{role}={pattern!r} must have a * for the id, as *_RGB has, and end in one of '
                f'{", ".join(ENDINGS.get(role, IMAGES))}, or without an ending'
            )

    @property
    def key(self) -> tuple:
        """What two roles in one folder may not have in common."""
        return self.stem, self.endings

    @property
    def in_subfolders(self) -> bool:
        return '/' in self.stem

    @cached_property
    def _stem(self) -> re.Pattern:
        return re.compile(re.escape(self.stem).replace(r'\*', '([^/]+)'))

    def read(self, name: str) -> str | None:
        """The id in a file's name; None where the name does not fit."""
        ending = ending_of(name, self.endings)
        return self.read_stem(name[: -len(ending)]) if ending else None

    def read_stem(self, stem: str) -> str | None:
        """As :meth:`read`, of a name without ending."""
        found = self._stem.fullmatch(stem)
        return '/'.join(found.groups()) if found else None

    def write(self, sample: str) -> str:
        """The name, without ending, that a sample's file should have; the id itself where it cannot have one."""
        parts = sample.split('/')
        if len(parts) != self.stem.count('*'):
            return sample
        return ''.join(text + part for text, part in zip(self.stem.split('*'), [*parts, ''], strict=True))


def ending_of(name: str, endings: Collection[str]) -> str:
    """The ending of a name, as it is written, where it is one of ``endings`` in lower case; else nothing."""
    dot = name.rfind('.')
    return name[dot:] if dot > 0 and name[dot:].lower() in endings else ''
