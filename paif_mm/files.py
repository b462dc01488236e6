"""Files that a crash never leaves half written, and hashes of what is in them."""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

PARTIAL = '.partial'  # ends the name of a file that is being written; what a killed process leaves


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, its folder included; after a crash there is the former file or the new one."""
    with writing(path) as file:
        file.write(content)


@contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file piece by piece; see :func:`write_bytes`. Nothing is left of it where that fails.

    Only a process that is killed leaves the beginning, ``NAME.PID.partial``; :func:`remove_partials` knows it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}{PARTIAL}')  # others may be writing it, too
    try:
        with open(partial, 'wb') as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Wait until no other process is in here with this file, which stays as it is; a process that is killed has left.

    Yields:
        Whether it is so: Windows and some network file systems know no such locks, and who may not write to the file
        may have none.
    """
    with ExitStack() as stack:
        try:
            import fcntl

            fcntl.flock(stack.enter_context(open(path, 'r+b')), fcntl.LOCK_EX)
        except (ImportError, OSError):
            yield False
        else:
            yield True


def write_json(path: str | Path, content: Mapping) -> None:
    """:func:`write_bytes` for JSON."""
    write_bytes(path, (json.dumps(content, indent=2) + '\n').encode())


def remove_partials(path: str | Path) -> None:
    """Remove what killed processes left of a file that nobody is writing now."""
    for partial in Path(path).parent.glob(f'{Path(path).name}.*{PARTIAL}'):
        partial.unlink(missing_ok=True)


def read_json_lines(path: str | Path) -> Iterator[dict]:
    """Objects of a file with one JSON object a line; a last line that a crash cut off is left out."""
    yield from map(json.loads, _whole_lines(Path(path)).splitlines())


def append_json_lines(path: str | Path) -> TextIO:
    """Open such a file for further lines, after removing a last one that a crash cut off: for its only writer."""
    path = Path(path)
    whole = _whole_lines(path)
    if path.is_file() and path.stat().st_size != len(whole.encode()):
        path.write_text(whole, encoding='utf-8')
    return open(path, 'a', encoding='utf-8')


def _whole_lines(path: Path) -> str:
    text = path.read_text(encoding='utf-8') if path.is_file() else ''
    return text[: text.rfind('\n') + 1]


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, which may be larger than memory."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def config_hash(config) -> str:
    """SHA-256 of a config or a part of one, whatever the order of its keys."""
    text = json.dumps(config.to_dict() if hasattr(config, 'to_dict') else config, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_seed(*parts) -> int:
    """A seed from anything printable."""
    return zlib.crc32(repr(parts).encode())
