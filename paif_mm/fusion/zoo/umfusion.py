import torch
from torch import Tensor, nn

from paif_mm.registry import MODELS

from ..network import FusionNetwork, channels_last
from ..operations import conv_of_concatenation
from .blocks import PaddedConv, lrelu, relu

CHANNELS = 64


@MODELS.register_module()
class UMFusion(FusionNetwork):
    """UMF-CMGR's fusion network (Wang et al., 'Unsupervised Misaligned Infrared and Visible Image Fusion via
    Cross-Modality Image Generation and Registration', IJCAI 2022), without the registration; 629,253 parameters.

    With h = LeakyReLU(.2)(conv .), B a residual dense block without biases, r = ReLU, each of its own weights::

        p = B(h(x)), q = B(h(y));  B(f) = f + conv1x1 [f, f1, f2, f3],  f_i = r(conv [f, f1, ..., f_{i-1}])
        A = sigmoid(conv(p) conv(q)),  a = A p,  b = A q
        g = conv [p, a], p' = g_0 p + g_1 a;  k = conv [q, b], q' = k_0 q + k_1 b
        u = tanh(conv conv [p', q'])

    Features have 64 channels, g and k two; kernels are 3x3. Inputs are taken in [0, 1] as they are; the output is the
    tanh as it is, in (-1, 1).

    Args:
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.
    """

    def __init__(self, compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        self.ir, self.vis = (nn.Sequential(PaddedConv(1, CHANNELS), lrelu(), ResidualDenseBlock()) for _ in range(2))
        self.query, self.key = (PaddedConv(CHANNELS, CHANNELS) for _ in range(2))
        self.weights_ir, self.weights_vis = (PaddedConv(2 * CHANNELS, 2) for _ in range(2))
        self.merge = PaddedConv(2 * CHANNELS, CHANNELS)
        self.head = nn.Sequential(PaddedConv(CHANNELS, 1), nn.Tanh())

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        ir, vis = self.ir(channels_last(ir)), self.vis(channels_last(vis))
        attention = (self.query(ir) * self.key(vis)).sigmoid()
        ir, vis = (
            reweighted(conv, features, features * attention)
            for conv, features in ((self.weights_ir, ir), (self.weights_vis, vis))
        )
        return self.head(conv_of_concatenation(self.merge, [ir, vis])).contiguous()


def reweighted(conv: nn.Conv2d, features: Tensor, attended: Tensor) -> Tensor:
    """p' of p and a, each (N, 64, H, W)."""
    weight, other = conv_of_concatenation(conv, [features, attended]).split(1, 1)
    return torch.addcmul(features * weight, attended, other)


class ResidualDenseBlock(nn.Module):
    """B: (N, 64, H, W) -> (N, 64, H, W)."""

    def __init__(self):
        super().__init__()
        self.dense = nn.ModuleList(PaddedConv(i * CHANNELS, CHANNELS, bias=False) for i in (1, 2, 3))
        self.project = PaddedConv(4 * CHANNELS, CHANNELS, 1, bias=False)
        self.act = relu()

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.dense:
            features.append(self.act(conv_of_concatenation(layer, list(features))))
        return x + conv_of_concatenation(self.project, features)
