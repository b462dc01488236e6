"""What an attack really did, in one line."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

from .attack import MODALITIES, AttackResult


@dataclass
class Audit:
    """Accumulates over the attacked images of one evaluation.

    Attributes:
        images (int): number of attacked images.
        broken (int): how many of them hold a value that is no finite number; the next two leave them out.
        blind (int): how many were attacked by gradients with values that are no finite numbers.
        max_delta (dict): largest |attacked - clean| per modality (``vis``, ``ir``; ``all`` for plain images), in
            pixel values of 0..255.
        at_bound (float): share of values whose |delta| is within 1e-3 of their modality's radius (L-inf), or of
            images whose norm is (L2).
        loss_before, loss_after (float): mean objective on the clean and on the attacked images.
        untouched (bool): whether parameters, buffers and modes of the model came out as they went in.
    """

    images: int = 0
    broken: int = 0
    blind: int = 0
    max_delta: dict = field(default_factory=dict)
    bound_hits: float = 0.0
    bound_total: float = 0.0
    before_sum: float = 0.0
    after_sum: float = 0.0
    untouched: bool = True

    def update(
        self, result: AttackResult, attack, before: Tensor, after: Tensor, places: Sequence[int] | None = None
    ) -> None:
        """Add one attacked batch with its losses (N,) before and after, or the images in some places of it."""
        places = list(range(len(result.images)) if places is None else places)
        self.images += len(places)
        if result.blind is not None:
            self.blind += int(result.blind[places].sum())
        self.before_sum += float(before[places].sum())
        self.after_sum += float(after[places].sum())
        for place in places:
            image = result.images[place]
            delta = image - result.clean[place]
            if not torch.isfinite(delta).all():
                self.broken += 1
                continue
            for name, part in MODALITIES.items() if image.size(0) == 4 else [('all', slice(None))]:
                self.max_delta[name] = max(self.max_delta.get(name, 0.0), float(delta[part].abs().max()))
            for budget in attack.budgets(image.size(0)):
                if budget.eps == 0:
                    continue
                inside = delta[budget.channels]
                reached = inside.norm()[None] if attack.norm == 'l2' else inside.abs()
                self.bound_hits += float((reached >= budget.eps - 1e-3).sum())
                self.bound_total += reached.numel()

    def reduce(self) -> 'Audit':
        """Combine the audits of all processes (in place)."""
        if get_world_size() > 1:
            names = ['all', *sorted(MODALITIES)]  # a process without images does not know which
            largest = torch.tensor([self.max_delta.get(name, -1.0) for name in names], dtype=torch.float64)
            counts = [self.images, self.broken, self.blind, int(not self.untouched)]
            sums = [*counts, self.bound_hits, self.bound_total, self.before_sum, self.after_sum]
            sums = torch.tensor(sums, dtype=torch.float64)
            all_reduce(largest, op='max')
            all_reduce(sums, op='sum')
            self.max_delta = {name: delta for name, delta in zip(names, largest.tolist(), strict=True) if delta >= 0}
            self.images, self.broken, self.blind, changed = map(int, sums[:4])
            self.untouched = changed == 0
            self.bound_hits, self.bound_total, self.before_sum, self.after_sum = sums[4:].tolist()
        return self

    @property
    def at_bound(self) -> float:
        return self.bound_hits / max(self.bound_total, 1)

    @property
    def loss_before(self) -> float:
        return self.before_sum / max(self.images, 1)

    @property
    def loss_after(self) -> float:
        return self.after_sum / max(self.images, 1)

    def to_dict(self) -> dict:
        """The figures of the audit line as plain values."""
        return {
            'images': self.images,
            'broken': self.broken,
            'blind': self.blind,
            'max_delta_255': dict(self.max_delta),
            'at_bound': self.at_bound,
            'loss_before': self.loss_before,
            'loss_after': self.loss_after,
            'model_unchanged': bool(self.untouched),
        }

    def __str__(self) -> str:
        largest = ', '.join(f'{name} {value:.3f}/255' for name, value in sorted(self.max_delta.items()))
        broken = f', {self.broken} of them NOT FINITE' if self.broken else ''
        broken += f', gradients of {self.blind} NOT FINITE' if self.blind else ''
        return (
            f'audit: {self.images} images{broken}, max |delta| {largest or "0"}, {self.at_bound:.1%} at the bound, '
            f'loss {self.loss_before:.4f} -> {self.loss_after:.4f}, '
            f'model {"unchanged" if self.untouched else "CHANGED"}'
        )
