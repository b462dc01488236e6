from itertools import pairwise

from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice

from ..network import FusionNetwork, channels_last
from ..operations import conv_of_concatenation
from .blocks import VARIANTS, PaddedConv, lrelu


@MODELS.register_module()
class U2Fusion(FusionNetwork):
    """U2Fusion (Xu et al., 'U2Fusion: A Unified Unsupervised Image Fusion Network', TPAMI 2020); 659,217 parameters.

    With every convolution 3x3 and a = LeakyReLU(.2)::

        f_0 = a(conv [vis, ir]);  f_i = a(conv [f_{i-1}, ..., f_0]), i = 1 ... 5, 44 channels each
        u   = tanh(conv a(conv a(conv a(conv [f_5, ..., f_0])))) / 2 + 1/2, of 128, 64, 32 and 1 channels

    Inputs are taken in [0, 1] as they are; the output lies in (0, 1). Its training loss: :class:`U2FusionLoss`.

    Args:
        variant (str): 'original' (borders are reflected), or 'paif' (the port that the PAIF paper compares with:
            borders of zeros, [f_0, ..., f_i] in this order, and the tanh as it is, in (-1, 1)).
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.

    Raises:
        ValueError: another variant.
    """

    CHANNELS, DEPTH = 44, 5

    def __init__(self, variant: str = 'original', compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        check_choice('variant', variant, VARIANTS)
        self.variant = variant
        width, border = self.CHANNELS, 'reflect' if variant == 'original' else 'zeros'
        self.stem = PaddedConv(2, width, border=border)
        self.dense = nn.ModuleList(PaddedConv(i * width, width, border=border) for i in range(1, self.DEPTH + 1))
        widths = ((self.DEPTH + 1) * width, 128, 64, 32, 1)
        self.decoder = nn.ModuleList(PaddedConv(*pair, border=border) for pair in pairwise(widths))
        self.act = lrelu()

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        """As :meth:`FusionNetwork.forward`; each feature map gets its border once, not in every layer that reads it."""
        images = [self.stem.extended(channels_last(image)) for image in (vis, ir)]
        features = [self._next(self.stem, images)]
        for layer in self.dense:
            new = self._next(layer, features)
            features = [new, *features] if self.variant == 'original' else [*features, new]
        for layer in self.decoder[:-1]:
            features = [self._next(layer, features)]
        u = conv_of_concatenation(self.decoder[-1], features).tanh()
        return (u / 2 + 0.5 if self.variant == 'original' else u).contiguous()

    def _next(self, layer: PaddedConv, features: list[Tensor]) -> Tensor:
        return layer.extended(self.act(conv_of_concatenation(layer, list(features))))
