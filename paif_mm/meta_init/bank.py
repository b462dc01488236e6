"""The offline attack bank: pairs that were attacked once, through one source model, at several strengths.

On disk: ``clean/NAME.png`` and ``<level>/NAME.png``, 8-bit RGBA with infrared as the fourth channel (MFNet's kind, as
LoadPairFromFile reads), and ``manifest.json`` with what they are and a hash of each.
"""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from paif_mm.files import write_bytes

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


def round_into_ball(attacked: Tensor, clean: Tensor, eps: float) -> Tensor:
    """The 8-bit image nearest to an attacked one that is within the radius of the clean 8-bit image.

    Args:
        attacked (Tensor): (4, H, W) float in [0, 255].
        clean (Tensor): (4, H, W) uint8.
        eps (float): radius in [0, 1] units; its whole pixel values count.
    """
    radius = int(eps * 255 + 1e-6)
    delta = (attacked.cpu() - clean.float().cpu()).round().clamp(-radius, radius)
    return (clean.cpu().float() + delta).clamp(0, 255).to(torch.uint8)


def write_pair(path: Path, pair: Tensor) -> str:
    """Write a (4, H, W) uint8 pair losslessly; returns the file's hash. A crash leaves no half file."""
    write_bytes(path, cv2.imencode('.png', np.ascontiguousarray(pair.numpy().transpose(1, 2, 0)))[1].tobytes())
    return file_hash(path)


def read_pair(path: Path) -> Tensor:
    """A (4, H, W) uint8 pair from a file of :func:`write_pair`."""
    return torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).permute(2, 0, 1)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
