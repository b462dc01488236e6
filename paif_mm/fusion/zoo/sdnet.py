from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice

from ..network import FusionNetwork, channels_last
from ..operations import conv_of_concatenation
from .blocks import VARIANTS, PaddedConv, lrelu


@MODELS.register_module()
class SDNet(FusionNetwork):
    """SDNet (Zhang and Ma, 'SDNet: A Versatile Squeeze-and-Decomposition Network for Real-Time Image Fusion', IJCV
    2021); 28,705 parameters, 67,091 with the decomposition.

    With a = LeakyReLU(.2), i = 2x - 1 and v = 2y - 1, each of its own weights::

        c1 = a(conv5x5 i), c2 = a(conv c1), c3 = a(conv [c1, c2]), c4 = a(conv [c1, c2, c3]), 16 channels each
        s = tanh(conv1x1 [c1 of i, c1 of v, ..., c4 of i, c4 of v]),  u = (s + 1) / 2

    Inputs are taken in [0, 1]; the output lies in (0, 1). Its training loss, :class:`SDNetLoss`, asks that i and v can
    be told from s again, for which it needs the network's other half::

        d = a(conv1x1 s), 128 channels;  i' = tanh(conv a(conv a(conv d))), of 16, 4 and 1 channels; v' likewise

    Args:
        variant (str): 'original', or 'paif' (the port that the PAIF paper compares with: LeakyReLU(.01), inputs as they
            are, all features of x before those of y, and the tanh as it is, in (-1, 1)).
        decomposition (bool): also build what tells the images from s. It takes no part in fusing. Default: False.
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.

    Raises:
        ValueError: another variant, or a decomposition of the port, which has none.
    """

    def __init__(
        self,
        variant: str = 'original',
        decomposition: bool = False,
        compile: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(compile, init_cfg)
        check_choice('variant', variant, VARIANTS)
        if decomposition and variant == 'paif':
            raise ValueError("decomposition: SDNet's variant 'paif' has none")
        self.variant = variant
        slope = 0.2 if variant == 'original' else 0.01
        self.ir, self.vis = Branch(slope), Branch(slope)
        self.squeeze = PaddedConv(128, 1, 1)
        self.decomposition = Decomposition() if decomposition else None

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        ir, vis = channels_last(ir), channels_last(vis)
        if self.variant == 'paif':
            return conv_of_concatenation(self.squeeze, [*self.ir(ir), *self.vis(vis)]).tanh().contiguous()
        features = zip(self.ir(2 * ir - 1), self.vis(2 * vis - 1), strict=True)
        squeezed = conv_of_concatenation(self.squeeze, [part for pair in features for part in pair]).tanh()
        return ((squeezed + 1) / 2).contiguous()

    def decompose(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Infrared and visible luminance as told from a fused one, all (N, 1, H, W) and in [0, 1].

        Raises:
            ValueError: the network was built without its decomposition.
        """
        if self.decomposition is None:
            raise ValueError('this SDNet was built without the part that decomposes: set decomposition=True')
        ir, vis = self.decomposition(channels_last(2 * fused - 1))
        return (ir + 1) / 2, (vis + 1) / 2


class Branch(nn.Module):
    """One modality's features: (N, 1, H, W) -> c1, c2, c3, c4, each (N, 16, H, W)."""

    def __init__(self, slope: float):
        super().__init__()
        self.stem = PaddedConv(1, 16, 5)
        self.dense = nn.ModuleList(PaddedConv(inputs, 16) for inputs in (16, 32, 48))
        self.act = lrelu(slope)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.act(self.stem(x))]
        for layer in self.dense:
            features.append(self.act(conv_of_concatenation(layer, list(features))))
        return features


class Decomposition(nn.Module):
    """s (N, 1, H, W) -> i', v', each (N, 1, H, W) in (-1, 1)."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Sequential(PaddedConv(1, 128, 1), lrelu())
        self.ir, self.vis = (
            nn.Sequential(PaddedConv(128, 16), lrelu(), PaddedConv(16, 4), lrelu(), PaddedConv(4, 1), nn.Tanh())
            for _ in range(2)
        )

    def forward(self, squeezed: Tensor) -> tuple[Tensor, Tensor]:
        features = self.expand(squeezed)
        return self.ir(features), self.vis(features)
