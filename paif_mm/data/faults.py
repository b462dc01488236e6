"""What is wrong with a data set: an error at once, or gathered where somebody wants to know all of it."""

from collections.abc import Iterator
from contextlib import contextmanager

_gathered: list[str] | None = None


@contextmanager
def gathered_faults() -> Iterator[list[str]]:
    """A list of what is wrong with all that is read inside, in any thread; what is wrong is skipped and read on."""
    global _gathered
    before, _gathered = _gathered, []
    try:
        yield _gathered
    finally:
        _gathered = before


def gathering() -> bool:
    return _gathered is not None


def fault(error: Exception | str) -> None:
    """Note what is wrong, where faults are gathered; otherwise raise it, if it is an error.

    Raises:
        Exception: ``error``.
    """
    if _gathered is not None:
        _gathered.append(str(error))
    elif isinstance(error, Exception):
        raise error
