"""The offline attack bank: pairs that were attacked once, through one source model, at several strengths.

On disk: ``clean/NAME.png`` and ``<level>/NAME.png``, 8-bit RGBA with infrared as the fourth channel (MFNet's kind, as
LoadPairFromFile reads), and ``manifest.json`` with what they are and a hash of each.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from paif_mm.files import file_hash, write_bytes

from .functional import Budget

MANIFEST = 'manifest.json'
CLEAN = 'clean'
VERSION = 1


class AttackBank:
    """A finished bank.

    Args:
        folder (str | Path): as ``tools/craft_attacks.py`` wrote it.

    Attributes:
        levels (dict[str, float]): name -> radius in [0, 1] units, in the order of the command.
        names (list[str]): of the pairs.

    Raises:
        FileNotFoundError: there is no bank, or it is not finished; the message says the command that makes it.
        ValueError: a file is missing, or is not the one of the manifest.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f'no attack bank at {self.folder} (no {MANIFEST}): make or finish it with '
                f'python tools/craft_attacks.py SOURCE_CONFIG SOURCE_CHECKPOINT {self.folder}'
            )
        try:
            self.manifest = json.loads(path.read_text(encoding='utf-8'))
            self.levels = {name: level['eps'] for name, level in self.manifest['levels'].items()}
            self.names = list(self.manifest['pairs'])
            files = self.manifest['files']
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{path} is no manifest of an attack bank (cut off?): {error}') from error
        for name, expected in files.items():
            file = self.folder / name
            if not file.is_file():
                raise ValueError(f'attack bank {self.folder} is incomplete: {name} is missing; make it again')
            if file_hash(file) != expected:
                raise ValueError(f'attack bank {self.folder} is damaged: {name} is not what its manifest says')

    def read(self, level: str, name: str) -> tuple[Tensor, Tensor]:
        """(attacked, clean), each (4, H, W) B,G,R,IR uint8; ``level='clean'`` gives the clean pair twice."""
        clean = read_pair(self.folder / CLEAN / f'{name}.png')
        return (clean if level == CLEAN else read_pair(self.folder / level / f'{name}.png')), clean


def round_into_ball(attacked: Tensor, clean: Tensor, budgets: Sequence[Budget], norm: str = 'linf') -> Tensor:
    """An attacked image as a sensor of 8 bits would deliver it, still within its budgets around the clean one.

    Args:
        attacked (Tensor): (C, H, W) float in [0, 255].
        clean (Tensor): (C, H, W) uint8.
        budgets: in pixel values; channels without one stay clean. Empty: there is no ball.
        norm: of the budgets. L-inf: the nearest levels within whole pixel values of the radius. L2: the nearest levels
            to the longest multiple of the change that stays inside, in steps of a hundredth.
    """
    clean = clean.cpu()
    delta = attacked.cpu().float() - clean.float()
    rounded = torch.zeros_like(delta) if budgets else delta.round()
    for channels, eps, _ in budgets:
        part = delta[channels]
        if norm == 'linf':
            radius = int(eps + 1e-6)
            rounded[channels] = part.round().clamp(-radius, radius)
        else:
            shrunk = ((part * (1 - i / 100)).round() for i in range(101))
            rounded[channels] = next(levels for levels in shrunk if levels.norm() <= eps + 1e-3)
    return (clean.float() + rounded).clamp(0, 255).to(torch.uint8)


def write_pair(path: Path, pair: Tensor) -> str:
    """Write a (4, H, W) uint8 pair, or a (3, H, W) image, losslessly; returns its hash. A crash leaves no half file."""
    write_bytes(path, cv2.imencode('.png', np.ascontiguousarray(pair.numpy().transpose(1, 2, 0)))[1].tobytes())
    return file_hash(path)


def read_pair(path: Path) -> Tensor:
    """A uint8 pair or image from a file of :func:`write_pair`."""
    return torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).permute(2, 0, 1)
