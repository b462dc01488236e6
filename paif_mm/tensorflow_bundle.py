"""Checkpoints of TensorFlow, read without it.

A checkpoint ``PREFIX`` is two kinds of files ('tensor bundle', TensorFlow's ``tensor_bundle.proto``):

* ``PREFIX.index`` is a sorted table of LevelDB's format: names of tensors, each with a message that says type, shape,
  place and checksum;
* ``PREFIX.data-00000-of-00001``, and further ones, hold their values one after the other.

Checksums are held against what was read. Nothing in the files is run.
"""

import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

MAGIC = 0xDB4775248B80FB57  # the last eight bytes of a table
FOOTER, TRAILER = 48, 5  # bytes at the end of a table, and of a block: kind of compression and checksum
TYPES = {1: torch.float32, 2: torch.float64, 3: torch.int32, 9: torch.int64, 14: torch.bfloat16, 19: torch.float16}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


class BundleError(ValueError):
    """A file is no checkpoint of TensorFlow's, or a damaged one; the message is one line for the user."""


def read_bundle(prefix: str | Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name, in their own types and TensorFlow's layouts.

    Args:
        prefix: the path without ``.index`` or ``.data-...``; one of the files will do as well.

    Raises:
        FileNotFoundError: the index or a data file is not there.
        BundleError: a file is damaged or of another format, or holds what this reader does not know: a compressed
            table, a tensor in slices or of another type.
    """
    prefix = re.sub(r'\.(index|meta|data-\d+-of-\d+)$', '', str(prefix))
    path = Path(f'{prefix}.index')
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not here: a checkpoint of TensorFlow is PREFIX.index and PREFIX.data-...')
    try:
        entries = dict(_table(path.read_bytes()))
        header = _message(entries.pop(b''))
        if header.get(2, 0) != 0:
            raise BundleError('its numbers are big-endian')
        shards = header.get(1, 1)
        return {name.decode(): _tensor(prefix, shards, _message(entry)) for name, entry in entries.items()}
    except BundleError as error:
        raise BundleError(f'{path} can not be read as a checkpoint of TensorFlow: {error}') from None
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, struct.error) as error:
        raise BundleError(f'{path} can not be read as a checkpoint of TensorFlow: it is damaged') from error


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720), as TensorFlow and LevelDB use it."""
    value, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


@cache
def _crc_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ 0x82F63B78 * (value & 1) for value in table]
    return table


def _check(data: bytes, masked: int, what: str) -> None:
    """Hold data against a checksum in the form in which files keep them."""
    value = crc32c(data)
    if ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF != masked:
        raise BundleError(f'the checksum of {what} does not match')


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table."""
    if len(content) < FOOTER or int.from_bytes(content[-8:], 'little') != MAGIC:
        raise BundleError('it does not end as a table does')
    footer = content[-FOOTER:]
    _, at = _handle(footer, 0)  # of the meta index, which is empty
    (offset, size), _ = _handle(footer, at)
    for _, value in _block(content, offset, size):
        (offset, size), _ = _handle(value, 0)
        yield from _block(content, offset, size)


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block: each key is a part of the one before, and the rest."""
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + TRAILER]
    _check(block + trailer[:1], int.from_bytes(trailer[1:], 'little'), 'a block')
    if trailer[0] != 0:
        raise BundleError('it is compressed: save it with TensorFlow again, which does not compress by default')
    restarts = int.from_bytes(block[-4:], 'little')
    key, at, end = b'', 0, size - 4 * (restarts + 1)
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where what follows begins."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where what follows begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields of a protocol buffer's message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(data, at)
        elif kind == BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
            value, at = int.from_bytes(data[at : at + length], 'little'), at + length
        else:
            raise BundleError('it is damaged')
        yield tag >> 3, value


def _message(data: bytes) -> dict[int, int | bytes]:
    return dict(_fields(data))


def _tensor(prefix: str, shards: int, entry: dict) -> Tensor:
    """One tensor, by its BundleEntryProto: 1 type, 2 shape, 3 shard, 4 offset, 5 size, 6 checksum, 7 slices."""
    if entry.get(1) not in TYPES or 7 in entry:
        raise BundleError('a tensor is in slices' if 7 in entry else f'a tensor has the type {entry.get(1)}')
    path = Path(f'{prefix}.data-{entry.get(3, 0):05d}-of-{shards:05d}')
    size = entry.get(5, 0)
    with path.open('rb') as file:
        file.seek(entry.get(4, 0))
        data = file.read(size)
    if len(data) < size:
        raise BundleError(f'{path.name} is too short')
    _check(data, entry.get(6, 0), f'a tensor in {path.name}')
    shape = [_message(dim).get(1, 0) for number, dim in _fields(entry.get(2, b'')) if number == 2]
    if size == 0:
        return torch.empty(shape, dtype=TYPES[entry[1]])
    return torch.frombuffer(bytearray(data), dtype=TYPES[entry[1]]).reshape(shape)
