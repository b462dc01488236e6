"""Files that a crash never leaves half written."""

import json
from collections.abc import Mapping
from pathlib import Path


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, its folder included; after a crash there is the former file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_bytes(content)
    partial.replace(path)


def write_json(path: str | Path, content: Mapping) -> None:
    """:func:`write_bytes` for JSON."""
    write_bytes(path, (json.dumps(content, indent=2) + '\n').encode())
