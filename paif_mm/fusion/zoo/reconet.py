import torch
from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice

from ..network import FusionNetwork, channels_last
from .blocks import VARIANTS, Layers, NormalisedConv, PaddedConv, relu


@MODELS.register_module()
class ReCoNet(FusionNetwork):
    """ReCoNet's fuser (Huang et al., 'ReCoNet: Recurrent Correction Network for Fast and Efficient Multi-modality Image
    Fusion', ECCV 2022), without its registration, which aligned pairs don't need; 7,527 parameters.

    f = max(x, y), and then ``steps`` times with the same weights::

        a_m = sigmoid(conv [max(m, f), (m + f) / 2]) for m = x, y
        f   = tanh(n(conv [g1, g2, g3])),  g_d = ReLU(n(conv_d [x a_x, f, y a_y])), 64 channels each

    conv_d is dilated by d, n a batch norm; all kernels are 3x3. Inputs are taken in [0, 1] as they are; the output is
    the last f, in (-1, 1).

    Args:
        variant (str): 'original' (the paper's, of the authors' archive), or 'paif' (their later fuser, which the PAIF
            paper compares with: g_d of 32 channels, GELU, no batch norms; 3,589 parameters).
        steps (int): recurrences, at least 1. Default: 3.
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.

    Raises:
        ValueError: another variant, or no step.
    """

    def __init__(self, variant: str = 'original', steps: int = 3, compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        check_choice('variant', variant, VARIANTS)
        if steps < 1:
            raise ValueError(f'steps must be at least 1, not {steps}')
        self.steps = steps
        layer, width = (NormalisedConv, 64) if variant == 'original' else (PaddedConv, 32)
        self.attention_ir, self.attention_vis = (PaddedConv(2, 1, bias=False) for _ in range(2))
        self.dilated = nn.ModuleList(layer(3, width, dilation=dilation) for dilation in (1, 2, 3))
        self.act = relu() if variant == 'original' else nn.GELU()
        self.head = Layers(layer(3 * width, 1), nn.Tanh())

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        ir, vis = channels_last(ir), channels_last(vis)
        fused = torch.maximum(ir, vis)
        for _ in range(self.steps):
            fused = self.step(ir, vis, fused)
        return fused.contiguous()

    def step(self, ir: Tensor, vis: Tensor, fused: Tensor) -> Tensor:
        """The next f, (N, 1, H, W)."""
        x = torch.cat(
            [ir * attention(self.attention_ir, ir, fused), fused, vis * attention(self.attention_vis, vis, fused)], 1
        )
        return self.head(*(self.act(layer(x)) for layer in self.dilated))


def attention(conv: nn.Module, image: Tensor, fused: Tensor) -> Tensor:
    """a_m, (N, 1, H, W) in (0, 1)."""
    return conv(torch.cat([torch.maximum(image, fused), (image + fused) / 2], 1)).sigmoid()
