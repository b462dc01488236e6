"""Batches of an attack bank for meta-initialisation."""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from paif_mm.attacks.bank import CLEAN, AttackBank
from paif_mm.engine.preemption import shield_workers


class MetaBatches(Dataset):
    """For each meta-iteration, and each scene in it: the batches of the inner steps, and one of the outer step.

    The bank's pairs are split once: inner batches come from D_tr, outer ones from D_val. Everything is drawn from
    (seed, rank, iteration), so that a resumed run sees the batches of an uninterrupted one.

    Args:
        bank (AttackBank): the bank.
        inner_steps (int): batches of D_tr per scene.
        batch_size (int): pairs per batch.
        crop_size (tuple[int, int] | None): height and width of random crops; None for whole pairs, of one size then.
        clean_scene (bool): whether the clean pairs are a scene, too.
        length (int): number of iterations.
        val_share (float): share of the pairs that D_val gets.
        seed, rank (int): of the draws; the split depends on ``seed`` alone.

    Raises:
        ValueError: too few pairs for two parts.
    """

    def __init__(
        self,
        bank: AttackBank,
        inner_steps: int,
        batch_size: int,
        crop_size: tuple[int, int] | None,
        clean_scene: bool,
        length: int,
        val_share: float = 0.5,
        seed: int = 0,
        rank: int = 0,
    ):
        order = torch.randperm(len(bank.names), generator=torch.Generator().manual_seed(seed)).tolist()
        count = round(len(order) * val_share)
        if not 0 < count < len(order):
            raise ValueError(
                f'{len(order)} pairs of the bank {bank.folder} with val_share={val_share} leave one part empty'
            )
        self.bank = bank
        self.parts = {'train': [bank.names[i] for i in order[count:]], 'val': [bank.names[i] for i in order[:count]]}
        self.scenes = [*([CLEAN] if clean_scene else []), *bank.levels]
        self.inner_steps = inner_steps
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.length = length
        self.seed = (seed, rank)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, iteration: int) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Scene -> (attacked, clean) batches, (B, 4, h, w) uint8 each: ``inner_steps`` of D_tr, then one of D_val."""
        generator = torch.Generator().manual_seed(zlib.crc32(repr((*self.seed, iteration)).encode()))
        parts = ['train'] * self.inner_steps + ['val']
        return {scene: [self._batch(scene, self.parts[part], generator) for part in parts] for scene in self.scenes}

    def _batch(self, scene: str, names: Sequence[str], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = torch.randint(len(names), (self.batch_size,), generator=generator).tolist()
        pairs = [self._crop(*self.bank.read(scene, names[i]), generator) for i in drawn]
        attacked, clean = (torch.stack(part) for part in zip(*pairs, strict=True))
        return attacked, clean

    def _crop(self, attacked: Tensor, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.crop_size is None:
            return attacked, clean
        spare = [max(0, have - want) for have, want in zip(clean.shape[-2:], self.crop_size, strict=True)]
        top, left = (int(torch.randint(room + 1, (), generator=generator)) for room in spare)
        window = (..., slice(top, top + self.crop_size[0]), slice(left, left + self.crop_size[1]))
        return attacked[window], clean[window]


def iterate(batches: MetaBatches, start: int, num_workers: int) -> DataLoader:
    """The batches of the iterations from ``start`` on, read ahead by workers; draws no global random number."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, len(batches)),
        num_workers=num_workers,
        generator=torch.Generator(),
    )
    return shield_workers(loader)
