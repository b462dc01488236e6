import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paif_mm.registry import MODELS

from ..network import FusionNetwork, channels_last
from .blocks import Layers, NormalisedConv, PaddedConv, lrelu

CHANNELS, LEVELS = 32, 3


@MODELS.register_module()
class SAGE(FusionNetwork):
    """SAGE (Wu et al., 'Every SAM Drop Counts: Embracing Semantic Priors for Multi-Modality Image Fusion and Beyond',
    CVPR 2025): the network that is left after training, without the Segment Anything Model; 135,617 parameters.

    A U-Net on both images. With S three times LeakyReLU(.01) of a batch norm of a 3x3 convolution to 32 channels, s the
    same with one 1x1 convolution, D the maximum of 2x2 pixels, and U bilinear upsampling to the other's size::

        f1 = S([y, x]),  f2 = S(D f1),  f3 = S(D f2)
        f4 = S(s([U f3, f2])),  f5 = S(s([U f4, f1])),  u = tanh(conv f5)

    Inputs are taken in [0, 1] as they are; the output is the tanh as it is, in (-1, 1). Images of less than 4 pixels
    are continued over their border.

    Of the networks of 2024 and 2025 it is this one because its paper reports better fused images and segmentation than
    earlier ones on FMB and MSRS (mIoU of 60.8 and 73), although what it runs is among the smallest of them, because it
    is made of convolutions alone, and because its code and weights are under the MIT licence.

    Args:
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.
    """

    def __init__(self, compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        self.down = nn.ModuleList(stage(2 if level == 0 else CHANNELS) for level in range(LEVELS))
        self.joins = nn.ModuleList(
            Layers(NormalisedConv(2 * CHANNELS, CHANNELS, 1), lrelu(0.01)) for _ in range(LEVELS - 1)
        )
        self.up = nn.ModuleList(stage(CHANNELS) for _ in range(LEVELS - 1))
        self.head = nn.Sequential(PaddedConv(CHANNELS, 1), nn.Tanh())

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        x = torch.cat([channels_last(vis), channels_last(ir)], 1)
        height, width = x.shape[-2:]
        least = 2 ** (LEVELS - 1)
        if height < least or width < least:
            x = F.pad(x, (0, max(least - width, 0), 0, max(least - height, 0)), mode='replicate')
        levels = []
        for down in self.down:
            x = down(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        levels.pop()
        for join, up in zip(self.joins, self.up, strict=True):
            skipped = levels.pop()
            x = F.interpolate(x, skipped.shape[-2:], mode='bilinear', align_corners=False)
            x = up(join(x, skipped))
        return self.head(x)[..., :height, :width].contiguous()


def stage(in_channels: int) -> nn.Sequential:
    """S, (N, C, H, W) -> (N, 32, H, W)."""
    widths = (in_channels, CHANNELS, CHANNELS)
    return nn.Sequential(*(part for width in widths for part in (NormalisedConv(width, CHANNELS), lrelu(0.01))))
