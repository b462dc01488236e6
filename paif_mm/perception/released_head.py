"""SegFormer's decoder as its authors, and PAIF's release, wrote it."""

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import SegformerHead
from torch import nn

from paif_mm.registry import MODELS


@MODELS.register_module()
class ReleasedSegformerHead(SegformerHead):
    """mmseg's ``SegformerHead`` with the original's per-stage layers: a plain linear projection with bias.

    mmseg puts BatchNorm and ReLU after each projection; the original (Xie et al. 2021) only after the convolution
    that fuses the stages. Weights of released PAIF checkpoints need the original form; see
    ``tools/model_converters/paif_release.py``. All arguments are ``SegformerHead``'s.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convs = nn.ModuleList(
            ConvModule(channels, self.channels, kernel_size=1, norm_cfg=None, act_cfg=None)
            for channels in self.in_channels
        )
