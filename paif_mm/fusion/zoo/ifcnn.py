import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paif_mm.data.colour import bgr_to_luma
from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice

from ..network import FusionNetwork, channels_last
from .blocks import RULES, NormalisedConv, PaddedConv, relu

CHANNELS = 64


@MODELS.register_module()
class IFCNN(FusionNetwork):
    """IFCNN (Zhang et al., 'IFCNN: A general image fusion framework based on convolutional neural network', Information
    Fusion 2020); 83,587 parameters.

    For colour images, as which grey ones are passed, with their borders repeated and b = ReLU(batch norm(conv3x3 .))::

        u = conv1x1 b(r(b(conv7x7 x), b(conv7x7 y))), 64 channels; r is a rule without parameters

    Inputs are taken in [0, 1] as they are. The output, the luminance of its three channels, is not bounded; the
    authors clip the channels to [0, 1] first. Here the first layer sums its weights over the three equal channels, and
    the last one weighs its own by the luminance's formula, which is the same with a third of the work. In the authors'
    training, the 7x7 convolution is that of a ResNet-101 and stays as it is (``paramwise_cfg`` with ``lr_mult=0`` on
    ``fusion.stem`` does the same).

    Args:
        rule (str): 'max' (the authors' for infrared and visible images), 'average', 'sum' or 'l1'. Default: 'max'.
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.

    Raises:
        ValueError: another rule.
    """

    RULES = {'max': torch.maximum, **RULES}

    def __init__(self, rule: str = 'max', compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        check_choice('rule', rule, self.RULES)
        self.rule = rule
        self.stem = PaddedConv(3, CHANNELS, 7, border='replicate', bias=False)
        self.encoder = nn.Sequential(NormalisedConv(CHANNELS, CHANNELS, border='replicate', bias=False), relu())
        self.decoder = nn.Sequential(NormalisedConv(CHANNELS, CHANNELS, border='replicate', bias=False), relu())
        self.head = PaddedConv(CHANNELS, 3, 1)

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        kernel = self.stem.weight.sum(1, keepdim=True)  # (64, 1, 7, 7)
        features = (self.encoder(F.conv2d(self.stem.extended(channels_last(x)), kernel)) for x in (ir, vis))
        decoded = self.decoder(self.RULES[self.rule](*features))
        weight, bias = (luma_of(value) for value in (self.head.weight, self.head.bias))
        return F.conv2d(decoded, weight, bias).contiguous()


def luma_of(rgb: Tensor) -> Tensor:
    """(3, ...), R, G, B -> (1, ...)."""
    return bgr_to_luma(rgb.flip(0).reshape(3, -1, 1)).reshape(1, *rgb.shape[1:])
