"""Training losses in which images count differently, for any model."""

import torch
from torch import Tensor, nn


class ImageWeights:
    """Makes a model's training losses a weighted mean over images: sum_i w_i L_i / N.

    The weights are those of the batch in the fuser's ``image_weights``; without them nothing changes. Images of
    one weight pass the model together and the groups' losses are added up, so that no loss function needs to know.
    Batch norms of the model then normalise each group by itself.

    Args:
        model (nn.Module): an OpenMMLab model, not wrapped.
        fuser (PairFuser): the part of it that fuses pairs.
    """

    def __init__(self, model: nn.Module, fuser):
        self._fuser = fuser
        self._others: list[tuple[float, dict]] = []
        self._handles = [
            model.register_forward_pre_hook(self._take_first_group, with_kwargs=True),
            # before other hooks, which may add losses of their own
            model.register_forward_hook(self._add_other_groups, with_kwargs=True, prepend=True),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _take_first_group(self, model, args, kwargs):
        weights = self._fuser.image_weights
        if not model.training or kwargs.get('mode') != 'loss' or weights is None:
            return None
        groups = []
        for weight in sorted(set(weights)):
            index = [i for i, value in enumerate(weights) if value == weight]
            part = {**kwargs, 'inputs': kwargs['inputs'][index]}
            part['data_samples'] = [kwargs['data_samples'][i] for i in index]
            groups.append((weight * len(index) / len(weights), part))
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


def attacked_weights(size: int, attacked: list[int], weight: float) -> list[float]:
    """Image weights, 1 on average, with which the mean is (L_clean + weight * L_attacked) / (1 + weight) (Eq. 4).

    Both L are means over their own images; where all images are of one kind, they count alike.
    """
    if not 0 < len(attacked) < size:
        return [1.0] * size
    clean = size / ((1 + weight) * (size - len(attacked)))
    share = weight * size / ((1 + weight) * len(attacked))
    return [share if i in attacked else clean for i in range(size)]


def weighted_mean(losses: list[Tensor], index: list[list[int]], weights: list[float]) -> Tensor:
    """sum_i w_i L_i / N of groups of per-image losses (n,), whose places in the batch are in ``index``."""
    total = 0.0
    for values, places in zip(losses, index, strict=True):
        total = total + (values * torch.tensor([weights[i] for i in places]).to(values)).sum()
    return total / len(weights)
