"""mmseg's cross-entropy with class weights on labels that are ignored: it asks for the weight of class 255.

mmseg 1.2 averages over the weights of all pixels' classes and looks these up before it leaves the ignored ones out, an
IndexError on a CPU, a device-side assertion on a GPU. Here the sum of the weights is found without them and handed on.
"""

import functools
import sys

import torch
from torch import Tensor

from .on_import import mend_on_import

MODULE = 'mmseg.models.losses.cross_entropy_loss'


def install_ignored_labels() -> None:
    """Mend mmseg's module. Idempotent."""
    mend_on_import(MODULE, _mend)


def weight_sum(class_weight: Tensor, label: Tensor, ignore_index: int, avg_non_ignore: bool) -> Tensor:
    """What a weighted cross-entropy is averaged over: the weights of all pixels' classes.

    Args:
        class_weight: (K,).
        label: any shape, values of 0..K-1 or ``ignore_index``.
        ignore_index: label of pixels that don't count.
        avg_non_ignore: whether these are left out; else each weighs 1, as all pixels do without class weights.
    """
    ignored = label == ignore_index
    weights = class_weight[label.masked_fill(ignored, 0)].masked_fill(ignored, 0.0 if avg_non_ignore else 1.0)
    return weights.sum(dtype=torch.promote_types(weights.dtype, torch.float32))  # of half precision: beyond its range


def _mend(module) -> None:
    former = module.cross_entropy
    if hasattr(former, '__wrapped__'):
        return

    @functools.wraps(former)
    def cross_entropy(
        pred,
        label,
        weight=None,
        class_weight=None,
        reduction='mean',
        avg_factor=None,
        ignore_index=-100,
        avg_non_ignore=False,
        **kwargs,
    ):
        if class_weight is not None and avg_factor is None and reduction == 'mean':
            avg_factor = weight_sum(class_weight, label, ignore_index, avg_non_ignore)
        return former(pred, label, weight, class_weight, reduction, avg_factor, ignore_index, avg_non_ignore, **kwargs)

    module.cross_entropy = cross_entropy
    losses = sys.modules.get(MODULE.rpartition('.')[0])
    if getattr(losses, 'cross_entropy', None) is former:
        losses.cross_entropy = cross_entropy
