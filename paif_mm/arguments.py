"""Arguments as people write them: what the tools' parsers share, and numbers such as 8/255."""

import argparse
import math
import os
import re
import tempfile
from pathlib import Path

from mmengine.config import DictAction

from .mistakes import DEBUG


class Parser(argparse.ArgumentParser):
    """A parser whose tool has ``--debug``, see :func:`~.mistakes.reports_mistakes`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_argument(DEBUG, action='store_true', help='show the traceback of an error instead of its one line')

    def add_model(self, config: str = 'config file', checkpoint: str = 'checkpoint file') -> None:
        """Positional arguments for :func:`~.engine.launch.model_files`."""
        self.add_argument('config', help=f'{config}, or paif_mm://NAME: config and checkpoint of a model of the zoo')
        self.add_argument('checkpoint', nargs='?', help=checkpoint)

    def add_config_options(self) -> None:
        self.add_argument(
            '--cfg-options',
            nargs='+',
            action=_Options,
            metavar='KEY=VALUE',
            help='override settings of the config: xxx=yyy, nested keys with dots, lists as key="[a,b]" or key=a,b',
        )

    def add_wide(self) -> None:
        """For tools whose tables are :func:`~.tables.fitted`."""
        self.add_argument('--wide', action='store_true', help='whole tables, also those of more than 120 columns')

    def add_launcher(self) -> None:
        self.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
        self.add_argument('--local_rank', '--local-rank', type=int, default=0)  # torch.distributed.launch passes it


class _Options(DictAction):
    """mmengine's, which says nothing that helps about a word that is no setting."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if not value.partition('=')[0] or '=' not in value:
                raise argparse.ArgumentError(self, f'{value!r} is no setting: write key=value, without spaces')
        super().__call__(parser, namespace, values, option_string)


def whole(least: int):
    """An argparse type: a whole number from ``least``."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text!r} is no whole number') from None
        if value < least:
            raise argparse.ArgumentTypeError(f'must be at least {least}, not {value}')
        return value

    return number


count, positive = whole(0), whole(1)


def seed(text: str) -> int:
    """An argparse type: a whole number that every generator of random numbers takes."""
    value = count(text)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f'must be below 2**32, not {value}')
    return value


def size(text: str) -> tuple[int, int]:
    """An argparse type: '480x640' -> (480, 640)."""
    match = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if not match:
        raise argparse.ArgumentTypeError(f'{text!r} is no size: write HEIGHTxWIDTH, e.g. 120x160')
    return int(match[1]), int(match[2])


def fraction(value: str | float) -> float:
    """'4/255', '0.0157' or a number as a number.

    Raises:
        ValueError: it is none, or it is not finite.
    """
    try:
        numerator, _, denominator = value.partition('/') if isinstance(value, str) else (value, '', '')
        number = float(numerator) / float(denominator or 1)
    except (TypeError, ValueError, ZeroDivisionError):
        raise ValueError(f'{value!r} is no number: write 8/255 or 0.031') from None
    if not math.isfinite(number):
        raise ValueError(f'{value!r} is no finite number')
    return number


def named_fraction(name: str, value: str | float) -> float:
    """A :func:`fraction`; the ValueError starts with the argument's name."""
    try:
        return fraction(value)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None


def share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    try:
        value = fraction(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'must be from 0 to 1, not {text}')
    return value


def radius(text: str) -> float:
    """An argparse type: a :func:`fraction` that is not negative."""
    try:
        value = fraction(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if value < 0:
        raise argparse.ArgumentTypeError(f'must not be negative: {text}')
    return value


def linf_radius(text: str) -> float:
    """An argparse type: a :func:`radius` of at most 1, the whole range of pixel values."""
    value = radius(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f'is in units of [0, 1], not of pixel values: write {text}/255')
    return value


def output_folder(path: str | Path, flag: str) -> None:
    """Make a folder that a tool is about to fill, before anything takes hours.

    Raises:
        SystemExit: nothing can be written there.
    """
    if '://' in str(path):
        return
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = (
            'a file is in its place' if isinstance(error, (FileExistsError, NotADirectoryError)) else error.strerror
        )
        raise SystemExit(f'{flag}: {path} can not be written ({reason}): give another folder') from None
