"""Training losses in which images count differently, for any model."""

import torch
from torch import Tensor, nn

from .logits import around_losses, plain_heads


class ImageWeights:
    """Makes a model's training losses a weighted mean over images: sum_i w_i L_i / N.

    The weights are those of the batch in the fuser's ``image_weights``; without them nothing changes. The losses of
    images of one weight are taken together and added up, so that no loss function needs to know. Heads of segmentors
    that make their losses of logits do so once for each weight, after one pass of the whole batch
    (see :func:`~.logits.plain_heads`). Other models pass the images of each weight by themselves, batch norms included;
    every process with several images makes two passes then, also if its own have one weight: synchronised batch norms
    wait for each other.

    Args:
        model (nn.Module): an OpenMMLab model, not wrapped.
        fuser (PairFuser): the part of it that fuses pairs.

    Raises:
        TypeError: several passes are needed, but the pairs are fused inside the model.
    """

    def __init__(self, model: nn.Module, fuser):
        self._fuser = fuser
        heads = plain_heads(model)
        if heads is not None:
            self._handles = [around_losses(head, self._of_each_weight) for head in heads]
            return
        if fuser is not model.data_preprocessor:
            raise TypeError(
                f'{type(model).__name__} takes images of different weights by themselves, which a '
                f'{type(fuser).__name__} inside the model cannot follow: fuse in the data_preprocessor instead'
            )
        self._others: list[tuple[float, dict]] = []
        self._handles = [
            model.register_forward_pre_hook(self._take_first_group, with_kwargs=True),
            # before other hooks, which may add losses of their own
            model.register_forward_hook(self._add_other_groups, with_kwargs=True, prepend=True),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _of_each_weight(self, losses_of, logits: Tensor, samples: list) -> dict:
        """A head's losses, where its own are ``losses_of(logits, samples)``."""
        weights = self._fuser.image_weights
        if weights is None:
            return losses_of(logits, samples)
        counted = [index for index in groups_of(weights) if weights[index[0]]] or [list(range(len(weights)))]
        total = {}
        for index in counted:
            share = weights[index[0]] * len(index) / len(weights)
            for name, value in losses_of(rows(logits, index), [samples[i] for i in index]).items():
                total[name] = _plus(total[name], _times(share, value)) if name in total else _times(share, value)
        return total

    def _take_first_group(self, model, args, kwargs):
        weights = self._fuser.image_weights
        if not model.training or kwargs.get('mode') != 'loss' or weights is None:
            return None
        groups = []
        for index in passes(weights):
            part = {**kwargs, 'inputs': rows(kwargs['inputs'], index)}
            part['data_samples'] = [kwargs['data_samples'][i] for i in index]
            groups.append((weights[index[0]] * len(index) / len(weights), part))
        (self._share, first), *self._others = groups
        return args, first

    def _add_other_groups(self, model, args, kwargs, losses):
        if self._fuser.image_weights is None or not model.training or kwargs.get('mode') != 'loss':
            return losses
        total = {name: _times(self._share, value) for name, value in losses.items()}
        for share, part in self._others:
            for name, value in model.forward(**part).items():
                total[name] = _plus(total[name], _times(share, value))
        self._others = []
        return total


def _times(factor: float, value):
    return [factor * v for v in value] if isinstance(value, (list, tuple)) else factor * value


def _plus(a, b):
    return [x + y for x, y in zip(a, b, strict=True)] if isinstance(a, (list, tuple)) else a + b


def groups_of(weights: list[float]) -> list[list[int]]:
    """The places of each weight, by rising weight."""
    return [[i for i, value in enumerate(weights) if value == weight] for weight in sorted(set(weights))]


def passes(weights: list[float]) -> list[list[int]]:
    """The places of each weight, two lists of them unless there is only one image."""
    groups = groups_of(weights)
    if len(groups) == 1 and len(weights) > 1:
        half = len(weights) // 2
        return [groups[0][:half], groups[0][half:]]
    return groups


def attacked_weights(size: int, attacked: int, weight: float) -> tuple[float, float]:
    """Weights of clean and of attacked images with which the mean is (L_clean + weight * L_attacked) / (1 + weight).

    That is Eq. 4; both L are means over their own images, ``attacked`` of ``size``, neither none nor all. The weights
    are 1 on average.
    """
    clean = size / ((1 + weight) * (size - attacked))
    return clean, weight * size / ((1 + weight) * attacked)


def weighted_mean(losses: list[Tensor], index: list[list[int]], weights: list[float]) -> Tensor:
    """sum_i w_i L_i / N of groups of per-image losses (n,), whose places in the batch are in ``index``."""
    total = 0.0
    for values, places in zip(losses, index, strict=True):
        total = total + sum(weights[place] * value for place, value in zip(places, values, strict=True))
    return total / len(weights)


def rows(values: Tensor, places: list[int]) -> Tensor:
    """``values[places]``, which would wait for a GPU to take the list over."""
    return torch.stack([values[place] for place in places]) if places else values[:0]
