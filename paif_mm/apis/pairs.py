"""Whatever holds pairs, as a stream of them: two images, two folders, two videos, two cameras, RGBA files, arrays."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from paif_mm.data.listing import count as counted
from paif_mm.data.listing import list_folder
from paif_mm.data.naming import IMAGES, ending_of

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.mpg', '.mpeg', '.m4v', '.wmv')
Image = str | np.ndarray


class Pair(NamedTuple):
    """A pair as it was given.

    Attributes:
        name: what its results are called.
        visible: a path, or an array HxW or HxWx3 (B,G,R).
        infrared: a path, or an array HxW; None where ``visible`` is RGBA with infrared as fourth channel.
    """

    name: str
    visible: Image
    infrared: Image | None


class Source(NamedTuple):
    """A stream of pairs.

    Attributes:
        pairs: read once, one at a time.
        total: how many there are; None where nobody knows.
        left_out: files that are no pairs, and why.
        fps: frames per second of a video; None for images.
        single: whether one pair was given rather than many, so that a fault of it is a fault of the call.
        files: those that hold the pairs, as far as they are known before the pairs come (of a generator, none).
        sizes: height and width of a video's visible and infrared frames; None for images.
    """

    pairs: Iterable[Pair]
    total: int | None
    left_out: list[str]
    fps: float | None = None
    single: bool = False
    files: Sequence[str] = ()
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None


def source_of(inputs) -> Source:
    """What a user gives, as pairs.

    Args:
        inputs: ``(visible, infrared)`` or ``dict(visible=..., infrared=...)``, both images (paths or arrays), folders
            (files of one name belong together, whatever their endings), videos or numbers of cameras; an RGBA file
            with infrared as fourth channel, or a folder of such files, or an array HxWx4; or a list or a generator of
            pairs of images.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder without a pair, two files of one name, a video that can not be opened.
        TypeError: something else.
    """
    if isinstance(inputs, Mapping):
        return _two(*_halves(inputs))
    if isinstance(inputs, tuple):
        if len(inputs) != 2:
            raise TypeError(f'a pair is (visible, infrared), not {len(inputs)} things; several pairs are a list')
        return _two(*inputs)
    if isinstance(inputs, str | Path):
        return _rgba(Path(inputs))
    if isinstance(inputs, np.ndarray):
        return Source([Pair('000000', inputs, None)], 1, [], single=True)
    if isinstance(inputs, Iterable):
        if not isinstance(inputs, Sequence):
            return Source(_each(inputs), len(inputs) if hasattr(inputs, '__len__') else None, [])
        if len(inputs) == 2 and all(isinstance(one, str | Path | np.ndarray) for one in inputs):
            _refuse_flat_pair(inputs)
        pairs = list(_each(inputs))
        return Source(pairs, len(pairs), [], files=[path for pair in pairs for path in files_of(pair)])
    raise TypeError(f'pairs are given as (visible, infrared), see PairInferencer, not as {type(inputs).__name__}')


def _halves(pair: Mapping) -> tuple:
    if pair.keys() != {'visible', 'infrared'}:
        raise TypeError(f'a pair has the keys visible and infrared, not {", ".join(map(str, pair))}')
    return pair['visible'], pair['infrared']


def _refuse_flat_pair(images: Sequence) -> None:
    """Raises TypeError where a list holds the two images of a pair; two RGBA images are two pairs."""
    for one in images:
        image = one if isinstance(one, np.ndarray) else cv2.imread(str(one), cv2.IMREAD_UNCHANGED)
        if image is not None and (image.ndim != 3 or image.shape[2] != 4):  # files that are none are told when read
            raise TypeError(
                f'{_said(one)} in a list is no RGBA image with infrared as fourth channel: give a pair as a tuple, '
                '(visible, infrared)'
            )


def _two(visible, infrared) -> Source:
    given = [str(one) if isinstance(one, Path) else one for one in (visible, infrared)]
    kinds = {_kind(one) for one in given}
    if len(kinds) > 1:
        raise TypeError(
            f'a pair is of one kind, not {" and ".join(sorted(kinds))}: {_said(visible)}, {_said(infrared)}'
        )
    (kind,) = kinds
    if kind == 'folder':
        return _folders(*given)
    if kind in ('video', 'camera'):
        return _frames(*given)
    pair = Pair(Path(given[0]).stem if kind == 'image file' else '000000', *given)
    return Source([pair], 1, [], single=True, files=files_of(pair))


def files_of(pair: Pair) -> list[str]:
    """The files that a pair is read from."""
    return [one for one in (pair.visible, pair.infrared) if isinstance(one, str)]


def _kind(given) -> str:
    """What one half of a pair is, in words.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: nothing that can be read.
    """
    if isinstance(given, np.ndarray):
        return 'array'
    if isinstance(given, int) and not isinstance(given, bool):
        return 'camera'
    if not isinstance(given, str):
        raise TypeError(f'an image is a path or an array, not {type(given).__name__}')
    if Path(given).is_dir():
        return 'folder'
    if '://' not in given and not Path(given).exists():
        raise FileNotFoundError(f'{given} does not exist')
    return 'video' if given.lower().endswith(VIDEOS) else 'image file'


def _said(given) -> str:
    return f'an array {given.shape}' if isinstance(given, np.ndarray) else str(given)


def _rgba(path: Path) -> Source:
    if path.is_dir():
        files, unread = _by_stem(str(path))
        pairs = (Pair(name, file, None) for name, file in files.items())
        return Source(pairs, len(files), unread, files=[*files.values()])
    if not path.exists():
        raise FileNotFoundError(f'{path} does not exist')
    return Source([Pair(path.stem, str(path), None)], 1, [], single=True, files=[str(path)])


def _folders(visible: str, infrared: str) -> Source:
    (first, unread), (second, also) = _by_stem(visible), _by_stem(infrared)
    names = [name for name in first if name in second]
    if not names:
        raise ValueError(f'no file of {visible} has a partner of its name in {infrared}')
    left_out = [f'{path} has no partner in {infrared}' for name, path in first.items() if name not in second]
    left_out += [f'{path} has no partner in {visible}' for name, path in second.items() if name not in first]
    left_out += unread + also
    pairs = (Pair(name, first[name], second[name]) for name in names)
    return Source(pairs, len(names), left_out, files=[*first.values(), *second.values()])


def _by_stem(folder: str) -> tuple[dict[str, str], list[str]]:
    """Images of a folder by their names without ending, sorted; and a line on what else it holds, if it does.

    Raises:
        ValueError: there are none, or two of one name.
    """
    found, others = {}, []
    for file in list_folder(folder, folder, None):
        ending = ending_of(file, IMAGES)
        if not ending or os.path.isdir(os.path.join(folder, file)):
            others += [] if file.startswith('.') else [file]
            continue
        stem = file[: -len(ending)]
        if stem in found:
            raise ValueError(f'{folder} holds {Path(found[stem]).name} and {file}, two images of one name')
        found[stem] = str(Path(folder) / file)
    if not found:
        raise ValueError(f'{folder} holds no images ({", ".join(IMAGES)})')
    unread = f'{folder}: {counted(others, "entry", "entries")} not read: no file of {", ".join(IMAGES)}'
    return found, [unread] if others else []


def _each(inputs: Iterable) -> Iterator[Pair]:
    """Pairs of images, one an item. Files that do not exist are told when they are read, so that the others go on."""
    seen = set()
    for index, item in enumerate(inputs):
        two = _halves(item) if isinstance(item, Mapping) else item
        halves = two if isinstance(two, tuple) else (two, None)
        halves = tuple(str(one) if isinstance(one, Path) else one for one in halves)
        kinds = {type(one) for one in halves if one is not None}
        if len(halves) != 2 or len(kinds) != 1 or not kinds <= {str, np.ndarray}:
            raise TypeError(f'item {index} is no pair of images: (visible, infrared), two paths or two arrays')
        if kinds == {str} and Path(halves[0]).is_dir():
            raise TypeError(f'item {index} is a folder, {halves[0]}: give folders by themselves, not in a list')
        name = Path(halves[0]).stem if kinds == {str} else f'{index:06d}'
        while name in seen:  # files of one name in several folders
            name = f'{name}_{index:06d}'
        seen.add(name)
        yield Pair(name, *halves)


def _frames(visible: str | int, infrared: str | int) -> Source:
    with _opened(visible) as first, _opened(infrared) as second:  # now, so that a wrong name is told at once
        totals = [int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) for capture in (first, second)]
        fps = first.get(cv2.CAP_PROP_FPS) or 25.0
        frames = [capture.read() for capture in (first, second)]
    sizes = tuple(frame.shape[:2] for _, frame in frames) if all(ok for ok, _ in frames) else None
    known = min(totals) > 0
    left_out = []
    if known and totals[0] != totals[1]:
        left_out = [f'{visible} has {totals[0]} frames, {infrared} {totals[1]}: the longer one was cut']
    files = [path for path in (visible, infrared) if isinstance(path, str)]
    return Source(
        _read_frames(visible, infrared), min(totals) if known else None, left_out, fps, files=files, sizes=sizes
    )


def _read_frames(visible: str | int, infrared: str | int) -> Iterator[Pair]:
    with _opened(visible) as first, _opened(infrared) as second:
        for index in count():
            frames = [capture.read() for capture in (first, second)]
            if not all(ok for ok, _ in frames):
                return
            yield Pair(f'{index:06d}', *(frame for _, frame in frames))


@contextmanager
def _opened(path: str | int) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(path)
    try:
        if not capture.isOpened():
            raise ValueError(f'{"camera " if isinstance(path, int) else ""}{path} can not be opened as a video')
        yield capture
    finally:
        capture.release()
