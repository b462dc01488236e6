"""Arguments of data sets: each is used, or refused by its name."""

from collections.abc import Collection, Mapping, Sequence
from os import PathLike

import numpy as np
from mmengine import fileio
from mmengine.config import Config

from paif_mm.spelling import meant

from .listing import read_lines


def check_dict(what: str, given: object) -> None:
    """Raise a ValueError where an argument is neither a dict nor None."""
    if given is not None and not isinstance(given, Mapping | Config):
        raise ValueError(f'{what} must be a dict, {what}=dict(...), not {given!r}')


def check_list_file(ann_file: object) -> None:
    """Raise a ValueError where ``ann_file`` is no path."""
    if not isinstance(ann_file, str | PathLike | None):
        raise ValueError(f'ann_file must be the path of a file, not {ann_file!r}')


def check_keys(what: str, given: Mapping | None, known: Collection[str]) -> None:
    """Raise a ValueError where ``given`` is no dict, or that names the first key which nobody reads."""
    check_dict(what, given)
    for key in given or ():
        if key not in known:
            raise ValueError(f'{what} has the unknown key {key!r}, which nothing reads: known are {listed(known, key)}')


def choose_folders(given: Mapping | None, default: Mapping[str, str], roles: Collection[str]) -> dict[str, str]:
    """The folder of each role: those of a known data set, and what ``data_prefix`` changes; None takes one away.

    Raises:
        ValueError: a role that the data set does not have, or no visible images.
    """
    check_keys('data_prefix', given, default or roles)
    folders = {role: folder for role, folder in {**default, **(given or {})}.items() if folder is not None}
    if 'img_path' not in folders:
        raise ValueError(f'data_prefix {folders} names no folder of visible images: data_prefix=dict(img_path=...)')
    return folders


def listed(known: Collection[str], wrong: str) -> str:
    """All known names in a row, and the one that was probably meant by a wrong name."""
    near = meant(str(wrong), known)
    return ', '.join(known) + (f' (did you mean {near}?)' if near else '')


def refuse(dataset: object, given: Mapping, reasons: Mapping[str, str]) -> None:
    """Raise a ValueError for the first argument that was given (neither None nor False) and would not be used.

    Args:
        dataset: whose class is named.
        given: the arguments.
        reasons: arguments that are not used, and what to do instead.
    """
    for name, mend in reasons.items():
        if given.get(name) not in (None, False):
            raise ValueError(f'{type(dataset).__name__} does not use {name}={given[name]!r}: {mend}')


def check_indices(indices: int | Sequence[int] | None, size: int, source: str) -> None:
    """Raise a ValueError where ``indices`` (a number of samples, or their places) go beyond ``size``."""
    if isinstance(indices, str | float):
        raise ValueError(f'indices must be a number of samples or a list of their places, not {indices!r}')
    if isinstance(indices, int):
        beyond = abs(indices) > size
    else:
        beyond = any(not -size <= index < size for index in indices or ())
    if beyond:
        raise ValueError(f'indices={indices} go beyond the {size} samples of {source}')


def class_names(what: str, given: str | Sequence[str]) -> tuple[str, ...]:
    """Names of classes, each once: as given, or the lines of a file.

    Raises:
        FileNotFoundError: a text that is no file.
        ValueError: no list of names, or one that names a class twice.
    """
    if isinstance(given, str):
        if not fileio.exists(given):
            raise FileNotFoundError(
                f'{what} must be a list of names or a file of them, not {given!r}: one class alone is [{given!r}]'
            )
        given = tuple(read_lines(given))
    if not isinstance(given, list | tuple) or not given or not all(isinstance(name, str) for name in given):
        raise ValueError(f'{what} must be a list of names or a file of them, not {given!r}')
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise ValueError(f'{what} names {", ".join(twice)} more than once')
    return tuple(given)


def random_palette(size: int) -> list[list[int]]:
    """Colours for so many classes, always the same."""
    return np.random.default_rng(0).integers(0, 256, (size, 3)).tolist()


class NamedClasses:
    """What our data sets ask of ``metainfo``: ``classes`` (names, or a file with one per line) and ``palette``."""

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        check_keys('metainfo', metainfo, ('classes', 'palette', *sorted({*cls.METAINFO} - {'classes', 'palette'})))
        if 'classes' in (metainfo or {}):
            metainfo = {**metainfo, 'classes': class_names('metainfo.classes', metainfo['classes'])}
        return super()._load_metainfo(metainfo)
