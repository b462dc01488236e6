"""The offline attack bank: pairs that were attacked once, through one source model, at several strengths.

On disk: ``clean/NAME.png`` and ``<level>/NAME.png``, 8-bit RGBA with infrared as the fourth channel (MFNet's kind, as
LoadPairFromFile reads), and ``manifest.json`` with what they are and a hash of each. :meth:`AttackBank.unpack` adds
``pixels.bin``, the same pairs decoded, and ``pixels.json``, its hash and where in it each pair begins; both may be
deleted at any time.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from paif_mm.files import file_hash, locked, remove_partials, write_bytes, write_json, writing

from .functional import Budget

MANIFEST = 'manifest.json'
CLEAN = 'clean'
VERSION = 1
PIXELS, PLACES = 'pixels.bin', 'pixels.json'


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
        self._unpacked: Unpacked | None = None
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
        clean = self._pair(CLEAN, name)
        return (clean if level == CLEAN else self._pair(level, name)), clean

    def unpack(self) -> bool:
        """Read pairs from decoded pixels from now on, of which a crop touches its own rows alone. Don't write to them.

        They are one file in the bank's folder, 4 H W bytes a pair and level, made by whoever asks first, while others
        wait. Later ones compare its hash first, as they did the images': a second or two for a gigabyte. A file that is
        not what it was is made anew. It is mapped into memory, so that workers and processes share it, and what is read
        often stays there.

        Returns:
            Whether it was made now.

        Raises:
            OSError: it can not be made there (a folder without write permission, a full disk) or mapped. Pairs are then
                read from their images as before.
        """
        manifest = file_hash(self.folder / MANIFEST)
        made = not Unpacked.fits(self.folder, manifest) and self._decode(manifest)
        unpacked = Unpacked(self.folder)
        unpacked.pixels()
        self._unpacked = unpacked
        return made

    def _decode(self, manifest: str) -> bool:
        """Whether the pixels were made here, and not by another process that was at it."""
        with locked(self.folder / MANIFEST) as alone:
            if alone:
                remove_partials(self.folder / PIXELS)
                if Unpacked.fits(self.folder, manifest):
                    return False
            Unpacked.make(self.folder, list(self.manifest['files']), manifest)
        return True

    def _pair(self, level: str, name: str) -> Tensor:
        file = f'{level}/{name}.png'
        return read_pair(self.folder / file) if self._unpacked is None else self._unpacked.pair(file)


class Unpacked:
    """The decoded pixels of a bank in one memory-mapped file.

    Args:
        folder (Path): of a bank whose pixels are there; see :meth:`make`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        content = json.loads((folder / PLACES).read_text(encoding='utf-8'))
        self.places, self.size = content['places'], content['size']
        self._pixels: Tensor | None = None

    @staticmethod
    def fits(folder: Path, manifest: str) -> bool:
        """Whether pixels are there, as they were written, and of the bank with this hash of its manifest."""
        try:
            content = json.loads((folder / PLACES).read_text(encoding='utf-8'))
            whole = content['manifest'] == manifest and (folder / PIXELS).stat().st_size == content['size']
            return whole and file_hash(folder / PIXELS) == content['hash']
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @staticmethod
    def make(folder: Path, files: Sequence[str], manifest: str) -> None:
        """Decode all files of a bank; a crash leaves none, or whole ones."""
        places, size, digest = {}, 0, hashlib.sha256()
        with writing(folder / PIXELS) as out:
            for file in files:
                pair = read_pair(folder / file)
                pixels = np.ascontiguousarray(pair.permute(1, 2, 0).numpy())
                out.write(pixels)
                digest.update(pixels)
                places[file] = [size, *pair.shape[1:]]
                size += pair.numel()
        content = {'manifest': manifest, 'size': size, 'hash': digest.hexdigest(), 'places': places}
        write_json(folder / PLACES, content)

    def pair(self, file: str) -> Tensor:
        """(4, H, W) uint8, a view of the file, which must not be written to: nothing is read before it is looked at."""
        begin, height, width = self.places[file]
        return self.pixels()[begin : begin + 4 * height * width].view(height, width, 4).permute(2, 0, 1)

    def pixels(self) -> Tensor:
        """All of them, (size,). Read-only, since a writable private mapping counts as memory that may be needed."""
        if self._pixels is None:
            mapped = np.memmap(self.folder / PIXELS, mode='r', shape=self.size)
            with warnings.catch_warnings():  # torch knows no tensors that are read-only
                warnings.filterwarnings('ignore', 'The given NumPy array is not writable')
                self._pixels = torch.from_numpy(mapped)
        return self._pixels

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_pixels': None}  # a worker that is spawned maps the file itself


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
