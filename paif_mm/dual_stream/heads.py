"""Heads of one layer, or of none, for networks whose features are decoded already."""

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import choices

from .labels import boundaries, foreground

LABELS = {'classes': None, 'foreground': foreground, 'boundaries': boundaries}


@MODELS.register_module()
class PixelHead(BaseDecodeHead):
    """Logits by one convolution of the first features.

    Args:
        channels (int): of the features.
        kernel_size (int): of the convolution, odd. Default: 1.
        bias (bool): whether it has one. Default: True.
        kwargs: as of mmseg's heads: ``num_classes``, ``loss_decode``, ``dropout_ratio``, ...
    """

    def __init__(self, channels: int, kernel_size: int = 1, bias: bool = True, **kwargs):
        super().__init__(channels, channels, in_index=kwargs.pop('in_index', 0), **kwargs)
        padding = kernel_size // 2
        self.conv_seg = nn.Conv2d(channels, self.out_channels, kernel_size, padding=padding, bias=bias)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self.cls_seg(self._transform_inputs(inputs))


@MODELS.register_module()
class EdgeGuidedHead(PixelHead):
    """EGFNet's: z + z * g of the first features' logits z, and g a 1x1 convolution of the edge map.

    Args:
        edges (bool): whether an edge map comes second; else g = 1, PAIF's release. Default: True.
        kwargs: as of :class:`PixelHead`.
    """

    def __init__(self, edges: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.conv_edge = nn.Conv2d(1, self.out_channels, 1) if edges else None

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        logits = super().forward(inputs)
        return logits + logits * (1.0 if self.conv_edge is None else self.conv_edge(inputs[1]))


@MODELS.register_module()
class SideHead(BaseDecodeHead):
    """The losses of a side output, whose logits come as they are; it predicts nothing.

    Args:
        labels (str): what it tells apart: the ``'classes'`` of the segmentation, ``'foreground'`` and class 0, or
            ``'boundaries'`` of the classes and the rest (see :mod:`~.labels`).
        num_classes (int): number of logits.
        in_index (int): its place among the side outputs.
        kwargs: as of mmseg's heads: ``loss_decode``, ``ignore_index``, ...

    Raises:
        ValueError: there are no such labels.
    """

    def __init__(self, labels: str, num_classes: int, in_index: int, **kwargs):
        if labels not in LABELS:
            raise ValueError(f'SideHead has no labels {labels!r}: {choices(labels, LABELS)}')
        super().__init__(
            num_classes,
            num_classes,
            num_classes=num_classes,
            out_channels=num_classes,
            in_index=in_index,
            dropout_ratio=0.0,
            init_cfg=None,
            **kwargs,
        )
        del self.conv_seg
        self.class_agnostic = labels != 'classes'  # so that its classes are not held against the data set's
        self._derived = LABELS[labels]

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self._transform_inputs(inputs)

    def _stack_batch_gt(self, batch_data_samples: list) -> Tensor:
        labels = super()._stack_batch_gt(batch_data_samples)  # (N, 1, H, W)
        return labels if self._derived is None else self._derived(labels, self.ignore_index)
