"""Arguments of data sets: each is used, or refused by its name."""

from collections.abc import Collection, Mapping, Sequence

from mmengine import fileio

from .listing import read_lines


def check_keys(what: str, given: Mapping | None, known: Collection[str]) -> None:
    """Raise a ValueError that names the first key which nobody reads."""
    for key in given or ():
        if key not in known:
            raise ValueError(f'{what} has the unknown key {key!r}, which nothing reads: known are {", ".join(known)}')


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
    if isinstance(indices, int):
        beyond = abs(indices) > size
    else:
        beyond = any(not -size <= index < size for index in indices or ())
    if beyond:
        raise ValueError(f'indices={indices} go beyond the {size} samples of {source}')


class NamedClasses:
    """What our data sets ask of ``metainfo``: ``classes`` (names, or a file with one per line) and ``palette``."""

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        check_keys('metainfo', metainfo, ('classes', 'palette', *sorted({*cls.METAINFO} - {'classes', 'palette'})))
        if isinstance((metainfo or {}).get('classes'), str):
            path = metainfo['classes']
            if not fileio.exists(path):
                raise FileNotFoundError(f'metainfo.classes must be a list of names or a file of them, not {path!r}')
            metainfo = {**metainfo, 'classes': tuple(read_lines(path))}
        loaded = super()._load_metainfo(metainfo)
        classes = loaded.get('classes', ())
        if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f'metainfo.classes must be a list of names or a file of them, not {classes!r}')
        twice = sorted({name for name in classes if classes.count(name) > 1})
        if twice:
            raise ValueError(f'metainfo.classes names {", ".join(twice)} more than once')
        return loaded
