"""Writes a checkpoint of TensorFlow byte by byte, from the definition of its format."""

import struct
from pathlib import Path

import numpy as np

TYPES = {'float32': 1, 'float64': 2, 'int32': 3, 'int64': 9}
MAGIC = 0xDB4775248B80FB57


def checksum(data: bytes) -> int:
    """Castagnoli's CRC by long division, rotated by 15 bits and shifted by LevelDB's constant."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ DIVIDED[value & 0xFF ^ byte]
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def divided(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


DIVIDED = [divided(byte) for byte in range(256)]


def varint(value: int) -> bytes:
    out = b''
    while value >= 128:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field * 8) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field * 8 + 2) + varint(len(value)) + value


def block(pairs: list[tuple[bytes, bytes]], interval: int = 3) -> bytes:
    """Entries whose keys leave out what they share with the one before, but each ``interval``-th."""
    out, restarts, last = b'', [], b''
    for count, (key, value) in enumerate(pairs):
        shared = 0
        if count % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return out + b''.join(struct.pack('<I', place) for place in restarts) + struct.pack('<I', len(restarts))


def write_bundle(prefix: Path, tensors: dict[str, np.ndarray], per_block: int = 4, compression: int = 0) -> None:
    """PREFIX.index and PREFIX.data-00000-of-00001."""
    values, entries = b'', [(b'', number(1, 1) + text(3, number(1, 1)))]
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        data = array.astype(array.dtype.newbyteorder('<')).tobytes()
        shape = b''.join(text(2, number(1, size)) for size in array.shape)
        entry = number(1, TYPES[array.dtype.name]) + text(2, shape)
        entry += number(4, len(values)) if values else b''  # zeros are left out of messages
        entry += (number(5, len(data)) if data else b'') + varint(6 * 8 + 5) + struct.pack('<I', checksum(data))
        entries.append((name.encode(), entry))
        values += data
    content, index = b'', []

    def add(payload: bytes) -> bytes:
        nonlocal content
        handle = varint(len(content)) + varint(len(payload))
        kind = bytes([compression])
        content += payload + kind + struct.pack('<I', checksum(payload + kind))
        return handle

    for start in range(0, len(entries), per_block):
        some = entries[start : start + per_block]
        index.append((some[-1][0] + b'~', add(block(some))))
    footer = add(block([])) + add(block(index, interval=1))
    content += footer.ljust(40, b'\0') + struct.pack('<Q', MAGIC)
    Path(f'{prefix}.index').write_bytes(content)
    Path(f'{prefix}.data-00000-of-00001').write_bytes(values)
