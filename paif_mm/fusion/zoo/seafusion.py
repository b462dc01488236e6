import torch
from torch import Tensor, nn

from paif_mm.registry import MODELS

from ..network import FusionNetwork, channels_last
from ..operations import conv_of_concatenation
from .blocks import PaddedConv, lrelu

SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


@MODELS.register_module()
class SeAFusion(FusionNetwork):
    """SeAFusion (Tang et al., 'Image fusion in the loop of high-level vision tasks', Information Fusion 2022).

    166,657 parameters. With a = LeakyReLU(.2) and E of its own weights for each modality::

        u = tanh(conv a(conv a(conv a(conv [E(y), E(x)])))) / 2 + 1/2, of 64, 32, 16 and 1 channels
        E = G2(G1(a(conv .))), of 16, 32 and 48 channels
        G(f) = LeakyReLU_.1(conv1x1 [f, f1, f2] + conv1x1 (|Sx f| + |Sy f|)),  f1 = a(conv f),  f2 = a(conv [f, f1])

    Sx, Sy are depthwise 3x3 convolutions that start as Sobel's and are trained. Inputs are taken in [0, 1] as they
    are; the output lies in (0, 1). The authors' files also hold batch norms (226 parameters) that their network never
    uses; they are left out here. Its training loss, beside that of the task: :class:`SeAFusionLoss`.

    Args:
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.
    """

    def __init__(self, compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        self.ir, self.vis = (
            nn.Sequential(PaddedConv(1, 16), lrelu(), GradientDenseBlock(16, 32), GradientDenseBlock(32, 48))
            for _ in range(2)
        )
        self.merge = PaddedConv(96, 64)
        self.decoder = nn.Sequential(
            lrelu(), PaddedConv(64, 32), lrelu(), PaddedConv(32, 16), lrelu(), PaddedConv(16, 1), nn.Tanh()
        )

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        features = [self.vis(channels_last(vis)), self.ir(channels_last(ir))]
        return (self.decoder(conv_of_concatenation(self.merge, features)) / 2 + 0.5).contiguous()


class GradientDenseBlock(nn.Module):
    """G, the 'gradient residual dense block': (N, C, H, W) -> (N, D, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.dense1 = PaddedConv(in_channels, in_channels)
        self.dense2 = PaddedConv(2 * in_channels, in_channels)
        self.project = PaddedConv(3 * in_channels, out_channels, 1)
        self.sobel_x = PaddedConv(in_channels, in_channels, groups=in_channels, bias=False)
        self.sobel_y = PaddedConv(in_channels, in_channels, groups=in_channels, bias=False)
        self.project_gradient = PaddedConv(in_channels, out_channels, 1)
        self.act, self.last_act = lrelu(), lrelu(0.1)
        with torch.no_grad():
            kernel = torch.tensor(SOBEL)
            self.sobel_x.weight.copy_(kernel)
            self.sobel_y.weight.copy_(kernel.T)

    def forward(self, x: Tensor) -> Tensor:
        dense = self.act(self.dense1(x))
        features = [x, dense, self.act(conv_of_concatenation(self.dense2, [x, dense]))]
        gradient = self.sobel_x(x).abs() + self.sobel_y(x).abs()
        return self.last_act(conv_of_concatenation(self.project, features) + self.project_gradient(gradient))
