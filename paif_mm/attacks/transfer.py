"""Attacks that were found on another model, now or earlier: what the attacked model's gradients have no part in."""

import os.path as osp
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

from paif_mm.data.colour import VISIBLE
from paif_mm.perception import find_fuser, normalised_channels
from paif_mm.registry import ATTACKS, build

from .attack import MODALITIES, Attack, AttackResult
from .bank import MANIFEST, AttackBank
from .frozen import unwrap
from .functional import Budget


class NoTransferError(ValueError):
    """A source or a bank that has nothing for the images at hand."""


@ATTACKS.register_module()
class TransferAttack(Attack):
    """Attacks a source model and shows the result to the model at hand.

    Where that does more harm than an attack through the model's own gradients, these mislead: gradient masking. A
    source that takes plain images is attacked on the visible ones; the infrared ones then stay as they are.

    Args:
        config, checkpoint (str): of the source model, which has the same classes; it is loaded when it is first needed,
            and once for all attacks through it.
        attack (dict): what the source is attacked by, e.g. ``dict(type='PGD', eps=8 / 255, steps=20, momentum=1.0)``.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        FileNotFoundError: there is no such file.
        NoTransferError: when called or asked for its budgets, the source fuses pairs, and the images are plain.
    """

    def __init__(self, config: str, checkpoint: str, attack: dict, objective: dict | None = None):
        super().__init__(objective)
        for path in (config, checkpoint):
            if not osp.isfile(path):
                raise FileNotFoundError(f'TransferAttack: the source {path} does not exist')
        self.config, self.checkpoint = config, checkpoint
        self.attack = build(ATTACKS, attack)
        self.norm, self.for_training = self.attack.norm, self.attack.for_training

    def __call__(self, model, data_batch: dict, index: Sequence[int] | None = None, training=False, rng=None):
        """See :meth:`~.attack.Attack.__call__`."""
        device, source = next(unwrap(model).parameters()).device, load_source(self.config, self.checkpoint)
        self.attack.check_model(source)
        named = getattr(unwrap(model), 'dataset_meta', None)
        if named:  # for attacks that name classes
            source.dataset_meta = named
        inputs = data_batch['inputs']
        plain = self._sees_visible_alone(inputs[0].size(0))
        seen = {**data_batch, 'inputs': [image[VISIBLE] for image in inputs] if plain else inputs}
        found = self.attack(source.to(device), seen, index, training, rng)
        if not plain:
            return AttackResult(found.index, found.images, found.clean, None, found.blind)
        clean = [inputs[i].to(device).float() for i in found.index]
        images = [torch.cat([image, pair[3:]]) for image, pair in zip(found.images, clean, strict=True)]
        return AttackResult(found.index, images, clean, None, found.blind)

    def prepare(self, dataset) -> None:
        self.attack.prepare(dataset)

    def budgets(self, channels: int) -> list[Budget]:
        if self._sees_visible_alone(channels):
            return [budget._replace(channels=VISIBLE) for budget in self.attack.budgets(3)]
        return self.attack.budgets(channels)

    def _sees_visible_alone(self, channels: int) -> bool:
        """Whether the source is shown the visible part of images of so many channels.

        Raises:
            NoTransferError: it fuses pairs, which these are not.
        """
        plain = takes_plain_images(self.config, self.checkpoint)
        if not plain and channels != 4:
            raise NoTransferError(
                f'the source {self.config} fuses pairs, but the attacked images have {channels} channels: give a '
                'source of plain images'
            )
        return plain and channels == 4


def takes_plain_images(config: str, checkpoint: str) -> bool:
    """Whether a source model takes images of one sensor: it neither fuses nor normalises pairs."""
    source = load_source(config, checkpoint)
    return find_fuser(source) is None and normalised_channels(source) != 4


def load_source(config: str, checkpoint: str) -> nn.Module:
    """The model that attacks are transferred from, loaded once for all of them."""
    return _loaded_source(config, checkpoint, *(Path(path).stat().st_mtime_ns for path in (config, checkpoint)))


@lru_cache(maxsize=4)  # a suite asks several in turns
def _loaded_source(config: str, checkpoint: str, *made: int) -> nn.Module:
    from paif_mm.engine.launch import load_model

    scope = DefaultScope.get_current_instance()
    source = load_model(config, checkpoint)[0]
    if scope is not None:  # the library of the attacked model stays the default
        init_default_scope(scope.scope_name)
    return source


@ATTACKS.register_module()
class BankAttack(Attack):
    """Shows attacked images of a bank: of ``tools/craft_attacks.py``, or of ``tools/robustness.py --save-adv``.

    Args:
        bank (str): folder of the bank, which holds every image that is attacked, by its file name.
        level (str): one of the bank's levels.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        ValueError: the bank has no such level; when called, an image is further from the clean one than its level
            says.
        NoTransferError: when called, an image is not in the bank, or the bank holds another one of its name.
    """

    def __init__(self, bank: str, level: str, objective: dict | None = None):
        super().__init__(objective)
        self.bank = open_bank(bank)
        if level not in self.bank.levels:
            raise ValueError(f'attack bank {bank} has the levels {", ".join(self.bank.levels)}, not {level!r}')
        self.level = level
        self.names = defaultdict(list)
        for name, file in self.bank.manifest['pairs'].items():
            self.names[file].append(name)

    def __call__(self, model, data_batch: dict, index: Sequence[int] | None = None, training=False, rng=None):
        """See :meth:`~.attack.Attack.__call__`."""
        device = next(unwrap(model).parameters()).device
        index = list(range(len(data_batch['inputs']))) if index is None else list(index)
        clean = [data_batch['inputs'][i].to(device).float() for i in index]
        images = [
            self._read(osp.basename(data_batch['data_samples'][i].img_path), image).to(device).float()
            for i, image in zip(index, clean, strict=True)
        ]
        return AttackResult(index, images, clean, None)

    def _read(self, file: str, clean: torch.Tensor) -> torch.Tensor:
        if file not in self.names:
            raise NoTransferError(
                f'attack bank {self.bank.folder} holds no {file}: make it from the images that are tested'
            )
        wanted = clean.round().clamp(0, 255).byte().cpu()
        for name in self.names[file]:
            attacked, before = self.bank.read(self.level, name)
            if torch.equal(before, wanted):
                self._check_radius(name, attacked, before)
                return attacked
        raise NoTransferError(
            f'attack bank {self.bank.folder} holds another {file}, of the shape {tuple(before.shape)} instead of '
            f'{tuple(clean.shape)} or other pixels: make it with the pipeline of this test'
        )

    def _check_radius(self, name: str, attacked: torch.Tensor, clean: torch.Tensor) -> None:
        reach, radius = int((attacked.int() - clean.int()).abs().max()), 255 * self.bank.levels[self.level]
        if reach > radius + 1e-3:
            raise ValueError(
                f'attack bank {self.bank.folder}, level {self.level}: {name} is up to {reach}/255 from its clean pair, '
                f'outside of the radius of {radius:.4g}/255 that the manifest states: make the bank again'
            )

    def budgets(self, channels: int) -> list[Budget]:
        radii = self.bank.manifest['levels'][self.level].get('modalities')  # of what was attacked one by one
        if radii is None:
            return [Budget(slice(0, channels), self.bank.levels[self.level] * 255, 0.0)]
        return [Budget(MODALITIES[name], eps * 255, 0.0) for name, eps in radii.items()]


def open_bank(folder: str) -> AttackBank:
    """A bank, whose files are checked once for all of its levels."""
    manifest = Path(folder) / MANIFEST
    return _checked_bank(folder, manifest.stat().st_mtime_ns if manifest.is_file() else 0)


@lru_cache(maxsize=4)
def _checked_bank(folder: str, made: int) -> AttackBank:
    return AttackBank(folder)
