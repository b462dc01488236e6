from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice

from ..activation import PReLU
from ..network import FusionNetwork, channels_last
from .blocks import RULES, VARIANTS, Layers, NormalisedConv

CHANNELS = 64


@MODELS.register_module()
class DIDFuse(FusionNetwork):
    """DIDFuse (Zhao et al., 'DIDFuse: Deep Image Decomposition for Infrared and Visible Image Fusion', IJCAI 2020).

    260,935 parameters. An autoencoder E, D that splits an image into a base and a detail part; the features of both
    images are merged by a rule r, and decoded. With p = PReLU, n(.) = batch norm of a 3x3 convolution::

        E(x): F1 = p(n(x)),  F2 = p(n(F1)),  B = tanh(n(F2)),  D = tanh(n(F2)), 64 channels each
        u = sigmoid(n([p(n([p(n([B, D])), F2])), F1])),  each of F1, F2, B, D = r(that of x, that of y)

    Inputs are taken in [0, 1] as they are; the output lies in (0, 1). The first and the last convolution reflect the
    border. Its training loss, which fuses nothing: :class:`DIDFuseLoss`.

    Args:
        variant (str): 'original' (one encoder, the sum), or 'paif' (the port that the PAIF paper compares with: an
            encoder for each modality, and the average; 372,873 parameters).
        rule (str, optional): 'sum', 'average' or 'l1' (the more active features weigh more) instead of the variant's.
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.

    Raises:
        ValueError: another variant or rule.
    """

    def __init__(
        self,
        variant: str = 'original',
        rule: str | None = None,
        compile: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(compile, init_cfg)
        check_choice('variant', variant, VARIANTS)
        rule = rule or {'original': 'sum', 'paif': 'average'}[variant]
        check_choice('rule', rule, RULES)
        self.rule = rule
        self.encoders = nn.ModuleList(Encoder() for _ in range({'original': 1, 'paif': 2}[variant]))
        self.decoder = Decoder()

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        features = (self._encoder(image)(channels_last(x)) for image, x in (('ir', ir), ('vis', vis)))
        merged = (RULES[self.rule](*pair) for pair in zip(*features, strict=True))
        return self.decoder(*merged).contiguous()

    def reconstruct(self, image: Tensor, modality: str) -> tuple[Tensor, Tensor, Tensor]:
        """What the autoencoder makes of one image, (N, 1, H, W): itself again, and its base and detail, (N, 64, H, W).

        ``modality`` is 'ir' or 'vis'.
        """
        shallow, deep, base, detail = self._encoder(modality)(channels_last(image))
        return self.decoder(shallow, deep, base, detail), base, detail

    def _encoder(self, modality: str) -> nn.Module:
        return self.encoders[0 if modality == 'ir' else -1]


class Encoder(nn.Module):
    """(N, 1, H, W) -> F1, F2, B, D, each (N, 64, H, W)."""

    def __init__(self):
        super().__init__()
        self.shallow = nn.Sequential(NormalisedConv(1, CHANNELS, border='reflect'), PReLU())
        self.deep = nn.Sequential(NormalisedConv(CHANNELS, CHANNELS), PReLU())
        self.base = nn.Sequential(NormalisedConv(CHANNELS, CHANNELS), nn.Tanh())
        self.detail = nn.Sequential(NormalisedConv(CHANNELS, CHANNELS), nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shallow = self.shallow(x)
        deep = self.deep(shallow)
        return shallow, deep, self.base(deep), self.detail(deep)


class Decoder(nn.Module):
    """F1, F2, B, D, each (N, 64, H, W) -> (N, 1, H, W) in (0, 1)."""

    def __init__(self):
        super().__init__()
        self.parts = Layers(NormalisedConv(2 * CHANNELS, CHANNELS), PReLU())
        self.deep = Layers(NormalisedConv(2 * CHANNELS, CHANNELS), PReLU())
        self.shallow = Layers(NormalisedConv(2 * CHANNELS, 1, border='reflect'), nn.Sigmoid())

    def forward(self, shallow: Tensor, deep: Tensor, base: Tensor, detail: Tensor) -> Tensor:
        return self.shallow(self.deep(self.parts(base, detail), deep), shallow)
