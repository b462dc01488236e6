"""Predictions of attacked images held to those of the clean ones (TRADES, Zhang et al., ICML 2019)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .logits import around_losses
from .weighting import rows


class Twins(NamedTuple):
    """Attacked images that stand at the end of a batch, after their clean ones.

    ``places`` are those of the clean ones, in the same order; ``share`` is what their mean counts in the global batch:
    the number of processes times this one's part of all attacked images.
    """

    places: list[int]
    share: float


class Trades:
    """Adds beta * KL(p_clean || p_attacked) to the losses of a head, for batches with :class:`Twins`.

    Args:
        head (nn.Module): a decode head of mmseg (see :func:`~.logits.plain_heads`).
        fuser (PairFuser): knows the batch's twins.
        beta (float): weight of the divergence.
    """

    def __init__(self, head: nn.Module, fuser, beta: float):
        self._head, self._fuser, self._beta = head, fuser, beta
        self._handle = around_losses(head, self._with_divergence)

    def remove(self) -> None:
        self._handle.remove()

    def _with_divergence(self, losses_of, logits: Tensor, samples: list) -> dict:
        losses = losses_of(logits, samples)
        twins = self._fuser.twins
        if twins is not None:
            first = len(samples) - len(twins.places)
            labels = torch.stack([samples[place].gt_sem_seg.data for place in twins.places])  # (n, 1, H, W)
            seen = F.interpolate(labels.float(), logits.shape[-2:], mode='nearest')[:, 0] != self._head.ignore_index
            divergence = pixel_divergence(rows(logits, twins.places), logits[first:], seen).mean()
            losses['loss_trades'] = self._beta * twins.share * divergence
        return losses


def pixel_divergence(clean: Tensor, attacked: Tensor, seen: Tensor) -> Tensor:
    """KL(p_clean || p_attacked) of each image, in nats, averaged over the pixels that count.

    Args:
        clean, attacked: logits (n, K, h, w). A single channel is the logit of the foreground against 0.
        seen: the pixels that count (n, h, w), bool.

    Returns:
        (n,); 0 for an image of which no pixel counts.
    """
    if clean.size(1) == 1:
        clean, attacked = (F.pad(logits, (0, 0, 0, 0, 1, 0)) for logits in (clean, attacked))
    p, q = F.log_softmax(clean.float(), 1), F.log_softmax(attacked.float(), 1)
    divergence = (p.exp() * (p - q)).sum(1)
    return (divergence * seen).sum((1, 2)) / seen.sum((1, 2)).clamp_min(1)
