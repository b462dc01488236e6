"""What segmentors of two streams have in common."""

from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor, nn

from paif_mm.spelling import choices

VARIANTS = ('published', 'paif')
CROSS_ENTROPY = {'type': 'CrossEntropyLoss', 'avg_non_ignore': True}


class DualStreamSegmentor(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` of a :class:`TwoStreamResNet`, a ``neck`` that fuses its levels, and one-layer heads.

    The neck's ``forward(levels)`` gives what the decode head takes first, and then whatever its ``sides`` needs; the
    logits of side outputs, ``sides(*those)``, are made where a loss asks for them, and never for a prediction. So every
    head's losses are of logits and labels alone, as attacks and weights of images want them.

    Subclasses say how deep and how high their variants are, and what their side outputs are: name ->
    (labels: see :class:`SideHead`, loss).
    """

    shared = True
    depths: dict[str, int]
    levels: dict[str, int]
    sides: dict[str, tuple[str, dict]]
    neck: nn.Module  # made by subclasses, once they know the backbone's channels

    def __init__(
        self,
        variant: str,
        backbone: dict | None,
        decode_head: dict,
        side_losses: dict | None = None,
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ):
        name = type(self).__name__
        if variant not in VARIANTS:
            raise ValueError(f'{name} has no variant {variant!r}: {choices(str(variant), VARIANTS)}')
        sides = self.sides if variant == 'published' else {}
        unknown = [side for side in side_losses or () if side not in sides]
        if unknown:
            known = choices(unknown[0], sides) if sides else 'it has one output'
            raise ValueError(f'side_losses of {name} ({variant}) has no {unknown[0]!r}: {known}')
        losses = {side: loss for side, (_, loss) in sides.items()} | dict(side_losses or {})
        heads = [
            {
                'type': 'paif_mm.SideHead',
                'labels': sides[side][0],
                'num_classes': decode_head.get('num_classes') if sides[side][0] == 'classes' else 2,
                'in_index': place,
                'loss_decode': {'loss_name': f'loss_{side}', **loss} if isinstance(loss, dict) else loss,
            }
            for place, (side, loss) in enumerate(losses.items())
        ]
        super().__init__(
            backbone={
                'type': 'paif_mm.TwoStreamResNet',
                'stream': {'type': 'ResNet', 'depth': self.depths[variant], **(backbone or {})},
                'shared': self.shared,
                'levels': self.levels[variant],
            },
            decode_head={'dropout_ratio': 0.0, **decode_head},
            auxiliary_head=heads or None,
            data_preprocessor=data_preprocessor,
            train_cfg=ConfigDict(train_cfg or {}),
            test_cfg=ConfigDict(test_cfg or {'mode': 'whole'}),
            init_cfg=init_cfg,
        )

    def _auxiliary_head_forward_train(self, inputs: tuple[Tensor, ...], data_samples: list) -> dict:
        return super()._auxiliary_head_forward_train(self.neck.sides(*inputs), data_samples)
