"""Mistakes of the user, told in one line; what may be a fault of the code keeps its traceback.

A mistake is what somebody foresaw: an error that our code raises by a ``raise`` statement, a name or an argument that
a registry does not know, a file that the system refuses, a GPU that is full; also what OpenMMLab's libraries raise,
with the place where they do. Everything else - an index, a key, an attribute that is not there - is taken for a fault.
"""

import ast
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple
from urllib.error import URLError

import torch

from .spelling import choices, known_arguments

PACKAGE = Path(__file__).resolve().parent
LIBRARIES = ('mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain')
DEBUG = '--debug'
#: How a traceback's text, as a data loader's worker sends it, shows a frame: file, line, and a line of the statement.
FRAME = re.compile(r'^ +File "(.+)", line (\d+), in .*\n +.*$', re.MULTILINE)


def reports_mistakes(main: Callable) -> Callable:
    """Let a tool's ``main`` end with one line for a mistake of its user; ``--debug`` shows the traceback instead.

    Raises:
        SystemExit: there was a mistake: exit code 1.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except Exception as error:
            line = None if DEBUG in sys.argv else explain(error, Path(main.__code__.co_filename).parent)
            if line is None:
                error.__suppress_context__ = False  # mmengine hides where a hook's TypeError comes from
                raise
            rank = os.environ.get('RANK', '0')
            raise SystemExit(line if rank == '0' else f'process {rank}: {line}') from None

    return wrapped


def explain(error: BaseException, tools: Path = PACKAGE) -> str | None:
    """The line for a mistake of the user; None for what may be a fault of the code.

    Args:
        error: as it was caught.
        tools: folder of the scripts whose own messages are lines, too.
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f'the GPU has too little memory: take a smaller batch size or smaller images ({_first_line(str(error))})'
    error = _of_the_hook(error)
    line = explain_build(error) or _unknown_argument(error) or _no_optimizer(error) or _refused_by_system(error)
    if line:
        return line
    raised = _raised(error)
    if raised is None or not raised.deliberate:
        return None
    if {PACKAGE, tools} & set(Path(raised.file).parents):
        return None if raised.kind == 'AssertionError' else raised.message
    parts = Path(raised.file).parts
    library = next((name for name in LIBRARIES if name in parts), None)
    if re.search('/torch/(utils/data|optim)/', Path(raised.file).as_posix()):  # which get values of the config
        library = 'torch'
    if library is None:
        return None
    place = f'{"/".join(parts[parts.index(library) :])}, line {raised.line}; {DEBUG} shows the traceback'
    missing = re.fullmatch(r"(?:'ConfigDict' object has no attribute )?'?(\w+)'?", raised.message)
    if missing and library == 'mmengine' and raised.kind in ('AttributeError', 'KeyError'):
        return f'the config has no setting {missing[1]!r}, which is needed here ({place})'
    return f'{raised.kind}: {raised.message} ({place})'


def _of_the_hook(error: BaseException) -> BaseException:
    """The error that mmengine's ``Runner.call_hook``, which raises every TypeError anew, got from a hook."""
    frame = _innermost(error, lambda frame: True)
    where = frame and (frame.f_globals.get('__name__'), frame.f_code.co_name)
    anew = where == ('mmengine.runner.runner', 'call_hook') and isinstance(error, TypeError)
    return error.__context__ if anew and error.__context__ else error


def said(error: BaseException) -> str:
    """An error within one line: what the system refused, or the error's kind and text."""
    return _refused_by_system(error) or f'{type(error).__name__}: {_one_line(_text(error))}'


def explain_build(error: BaseException) -> str | None:
    """The line for a name or an argument in a config that a registry, any library's, does not know."""
    frame = _innermost(error, lambda frame: frame.f_code.co_name == 'build_from_cfg' and 'registry' in frame.f_locals)
    if frame is None:
        return None
    registry, name, kind = (frame.f_locals.get(key) for key in ('registry', 'obj_type', 'obj_cls'))
    if isinstance(error, KeyError) and isinstance(name, str) and kind is None:
        return f'there is no {registry.name} {name!r}: {choices(name, _registered(registry))}'
    if isinstance(error, TypeError) and kind is not None:
        return _argument_line(kind, str(error), frame.f_locals.get('args', {}))
    return None


def _registered(registry) -> list[str]:
    """All names of a registry and its relatives, as a config in its scope spells them."""
    root = registry
    while root.parent is not None:
        root = root.parent
    names, family = [], [root]
    while family:
        one = family.pop()
        if one.scope in (registry.scope, 'paif_mm'):
            one.import_from_location()
        own = one.scope in (registry.scope, root.scope)
        names += [name if own else f'{one.scope}.{name}' for name in one.module_dict]
        family += one.children.values()
    return names


def _unknown_argument(error: BaseException) -> str | None:
    """The line for an argument that OpenMMLab hands from the config to what has no registry, as DataLoader."""
    found = re.match(r'([\w.]+)\(\) got an unexpected', str(error)) if isinstance(error, TypeError) else None
    frame = found and _innermost(error, lambda frame: True)
    if not frame or not {*LIBRARIES, 'torch'} & set(Path(frame.f_code.co_filename).parts):
        return None
    first, *rest = found[1].removesuffix('.__init__').split('.')
    kind = functools.reduce(lambda owner, name: getattr(owner, name, None), rest, frame.f_globals.get(first))
    return _argument_line(kind, str(error)) if callable(kind) else None


def _no_optimizer(error: BaseException) -> str | None:
    """mmengine looks at an optimizer's arguments before it builds it."""
    frame = _innermost(error, lambda frame: 'optimizer_cls' in frame.f_locals)
    if not isinstance(error, TypeError) or frame is None or frame.f_locals['optimizer_cls'] is not None:
        return None
    from mmengine.registry import OPTIMIZERS

    name = frame.f_locals['optimizer_cfg']['type']
    return f'there is no optimizer {name!r}: {choices(name, _registered(OPTIMIZERS))}'


def _argument_line(kind: Callable, message: str, given=None) -> str | None:
    """What a call's TypeError says about the arguments of ``kind``; None if it is about something else."""
    name = getattr(kind, '__name__', str(kind))
    if found := re.search(r"got an unexpected keyword argument '(\w+)'", message):
        if given is not None and found[1] not in given:  # of a call inside
            return None
        return f'{name} has no argument {found[1]!r}: {choices(found[1], known_arguments(kind)[0])}'
    if found := re.search(rf'{name}\.__init__\(\) missing \d+ required .*?arguments?: (.+)', message):
        return f'{name} needs {found[1]}: write it into dict(type={name!r}, ...)'
    return None


def _refused_by_system(error: BaseException) -> str | None:
    if isinstance(error, URLError):
        asked = _innermost(error, lambda frame: isinstance(frame.f_locals.get('url'), str))
        return f'{asked.f_locals["url"] if asked else "a file"} can not be downloaded: {error.reason}'
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return None
    return f'{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}'


class _Raised(NamedTuple):
    """An error as it was raised, in this process or in a worker's."""

    kind: str
    message: str
    file: str
    line: int

    @property
    def deliberate(self) -> bool:
        """Whether the line belongs to a statement that raises, which may be of several lines."""
        try:
            nodes = ast.walk(ast.parse(Path(self.file).read_bytes()))
        except (OSError, SyntaxError):
            return False
        raising = (node for node in nodes if isinstance(node, ast.Raise | ast.Assert))
        return any(node.lineno <= self.line <= node.end_lineno for node in raising)


def _raised(error: BaseException) -> _Raised | None:
    text = _text(error)
    if 'Original Traceback' in text:
        return _raised_in_worker(text)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return None
    last = frames[-1]
    return _Raised(type(error).__name__, _one_line(text), last.filename, last.lineno or 0)


def _raised_in_worker(text: str) -> _Raised | None:
    """From the text that torch puts into an error which a worker sends: its traceback, and its own last line."""
    frames = list(FRAME.finditer(text))
    if not frames:
        return None
    rest = re.sub(r'^\s.*\n', '', text[frames[-1].end() + 1 :], flags=re.MULTILINE)  # carets, further lines
    kind, _, message = rest.partition(': ')
    file, line = frames[-1].groups()
    if kind == 'KeyError':
        message = message.strip().strip('\'"')
    return _Raised(kind.rpartition('.')[2], _one_line(message), file, int(line))


def _innermost(error: BaseException, wanted: Callable[[FrameType], bool]) -> FrameType | None:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if wanted(frame)]
    return frames[-1] if frames else None


def _text(error: BaseException) -> str:
    """What an error says; KeyError puts it in quotes."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _one_line(text: str) -> str:
    return ' '.join(text.split())


def _first_line(text: str) -> str:
    return text.strip().partition('\n')[0]
