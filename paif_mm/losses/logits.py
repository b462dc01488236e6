"""The seam of mmseg's heads between logits and losses."""

from collections.abc import Callable

from torch import nn


def plain_heads(model: nn.Module) -> list[nn.Module] | None:
    """The heads of a segmentor, the decode head first; None if the losses of one are not of logits and labels alone.

    Those of mmseg's ``BaseDecodeHead`` are ``loss_by_feat(logits, data_samples)``. Cascades, heads that decide by
    queries or have several outputs, and models of other libraries have losses of their own making.
    """
    if not hasattr(model, 'decode_head'):
        return None
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    auxiliary = getattr(model, 'auxiliary_head', None)
    others = auxiliary if isinstance(auxiliary, nn.ModuleList) else [head for head in (auxiliary,) if head is not None]
    heads = [model.decode_head, *others]
    plain = all(
        isinstance(head, BaseDecodeHead)
        and type(head).loss is BaseDecodeHead.loss
        and type(head).loss_by_feat is BaseDecodeHead.loss_by_feat
        for head in heads
    )
    return heads if plain else None


def around_losses(head: nn.Module, function: Callable) -> 'Around':
    """Let ``function(losses_of, logits, data_samples)`` make a head's losses from now on.

    ``losses_of(logits, data_samples)`` are those that it made before. ``remove()`` of what is returned undoes it, the
    last one first.
    """
    return Around(head, function)


class Around:
    def __init__(self, head: nn.Module, function: Callable):
        self._head, self._before = head, vars(head).get('loss_by_feat')
        losses_of = head.loss_by_feat
        head.loss_by_feat = lambda logits, samples: function(losses_of, logits, samples)

    def remove(self) -> None:
        del self._head.loss_by_feat
        if self._before is not None:
            self._head.loss_by_feat = self._before
