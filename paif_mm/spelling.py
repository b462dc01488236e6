"""Names that nobody knows: what they were probably meant to be, and what is known."""

import inspect
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher

FEW, SHOWN = 16, 8  # known names that a message lists in whole, and how many of more
LIKE = 0.6  # likeness in [0, 1] from which a name is suggested


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """Known names in the order of their likeness to ``name``, whatever their case and scope."""
    return sorted(set(known), key=lambda other: (-_likeness(name, other), other))


def meant(name: str, known: Iterable[str], least: float = LIKE) -> str | None:
    """The known name that ``name`` is most like; None where it is like none."""
    first = next(iter(nearest_first(name, known)), None)
    return first if first is not None and _likeness(name, first) >= least else None


def choices(name: str, known: Iterable[str]) -> str:
    """'did you mean PGD? Known are PGD, APGD, ...': the end of a message about an unknown name."""
    ordered = nearest_first(name, known)
    guess = meant(name, ordered)
    shown = ', '.join(ordered if len(ordered) <= FEW else [*ordered[:SHOWN], '...'])
    return f'{f"did you mean {guess}? " if guess else ""}Known are {shown}'


def known_arguments(function: Callable) -> tuple[list[str], bool]:
    """Names of what a class or a function takes, base classes included, and whether it takes any other name as well."""
    functions = [function]
    if inspect.isclass(function):
        functions = [vars(kind)['__init__'] for kind in function.__mro__ if '__init__' in vars(kind)]
    names = []
    for one in functions:
        try:
            parameters = inspect.signature(one).parameters.values()
        except (TypeError, ValueError):  # written in C
            return names, True
        named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        names += [name for name in named if name != 'self' and name not in names]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names, False
    return names, True


def _likeness(name: str, other: str) -> float:
    return SequenceMatcher(None, *(text.lower().rpartition('.')[2] for text in (name, other))).ratio()


def check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """Refuse a setting that is none of a few.

    Raises:
        ValueError: the message is one line for the user.
    """
    if value not in allowed:
        raise ValueError(f'{name} must be one of {", ".join(allowed)}, not {value!r}')
