from torch import Tensor, nn

from paif_mm.registry import MODELS

from ..network import FusionNetwork, channels_last
from .blocks import Layers, NormalisedConv, PaddedConv, relu

CHANNELS, DEPTH = 32, 3


@MODELS.register_module()
class TarDAL(FusionNetwork):
    """TarDAL's generator (Liu et al., 'Target-aware Dual Adversarial Learning and a Multi-scenario Multi-Modality
    Benchmark to Fuse Infrared and Visible for Object Detection', CVPR 2022); 296,577 parameters.

    With every convolution 3x3, n a batch norm of one, r = ReLU::

        f_0 = r(n([x, y]));  f_i = r(n([f_0, ..., f_{i-1}])), i = 1, 2, 3, 32 channels each
        u   = tanh(conv r(n(r(n(r(conv [f_0, ..., f_3])))))), of 128, 64, 32 and 1 channels

    Inputs are taken in [0, 1] as they are; the output is the tanh as it is, in (-1, 1): the authors clip it to [0, 1],
    as does whatever composes an image here. Their weights are of three kinds: ``tardal+`` and ``tardal++`` are made for
    evaluation mode; ``tardal`` was run with batch norms in training mode, so that its results depend on the batch, and
    gives others here. Its training loss without discriminators: :class:`TarDALLoss`.

    Args:
        compile (bool), init_cfg (dict, optional): see :class:`FusionNetwork`.
    """

    def __init__(self, compile: bool = False, init_cfg: dict | None = None):
        super().__init__(compile, init_cfg)
        self.stem = NormalisedConv(2, CHANNELS)
        self.dense = nn.ModuleList(NormalisedConv((i + 1) * CHANNELS, CHANNELS) for i in range(DEPTH))
        width = (DEPTH + 1) * CHANNELS
        self.decoder = Layers(
            *(PaddedConv(width, 128), relu()),
            *(NormalisedConv(128, 64), relu()),
            *(NormalisedConv(64, 32), relu()),
            *(PaddedConv(32, 1), nn.Tanh()),
        )
        self.act = relu()

    def fuse(self, ir: Tensor, vis: Tensor) -> Tensor:
        features = [self.act(self.stem(channels_last(ir), channels_last(vis)))]
        for layer in self.dense:
            features.append(self.act(layer(*features)))
        return self.decoder(*features).contiguous()
