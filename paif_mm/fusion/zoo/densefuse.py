import torch
from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice

from ..network import FusionNetwork, channels_last
from ..operations import conv_of_concatenation
from .blocks import RULES, PaddedConv, relu


@MODELS.register_module()
class DenseFuse(FusionNetwork):
    """DenseFuse (Li and Wu, 'DenseFuse: A Fusion Approach to Infrared and Visible Images', TIP 2019).

    74,193 parameters. An autoencoder whose features of both images are merged by a rule r. With every convolution 3x3
    with a reflected border, a = ReLU, and the images in [0, 255]::

        E(x) = [f_0, f_1, f_2, f_3],  f_0 = a(conv x),  f_i = a(conv [f_0, ..., f_{i-1}]), 16 channels each
        u = conv a(conv a(conv a(conv r(E(x), E(y))))), of 64, 32, 16 and 1 channels

    Inputs are taken in [0, 1] and multiplied by 255, the output is divided by 255 and not bounded.

    Args:
        rule (str): 'average' (of the authors' PyTorch release), 'sum' (the paper's addition) or 'l1' (the paper's other
            rule: the more active features weigh more). Default: 'average'.
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.

    Raises:
        ValueError: another rule.
    """

    CHANNELS, DEPTH, LEVELS = 16, 3, 255

    def __init__(self, rule: str = 'average', compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        check_choice('rule', rule, RULES)
        self.rule = rule
        width = self.CHANNELS
        self.stem = PaddedConv(1, width, border='reflect')
        self.dense = nn.ModuleList(PaddedConv(i * width, width, border='reflect') for i in range(1, self.DEPTH + 1))
        self.decoder = nn.Sequential(
            *(PaddedConv(64, 64, border='reflect'), relu()),
            *(PaddedConv(64, 32, border='reflect'), relu()),
            *(PaddedConv(32, 16, border='reflect'), relu()),
            PaddedConv(16, 1, border='reflect'),
        )
        self.act = relu()

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        features = (self.encode(channels_last(image * self.LEVELS)) for image in (ir, vis))
        return (self.decoder(RULES[self.rule](*features)) / self.LEVELS).contiguous()

    def encode(self, x: Tensor) -> Tensor:
        """E(x), (N, 1, H, W) -> (N, 64, H, W)."""
        features, extended = [self.act(self.stem(x))], []
        for layer in self.dense:
            extended.append(layer.extended(features[-1]))
            features.append(self.act(conv_of_concatenation(layer, list(extended))))
        return torch.cat(features, 1)
