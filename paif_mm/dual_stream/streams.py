"""The two modalities of a pair, each through a ResNet."""

from mmengine.model import BaseModule
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from paif_mm.registry import MODELS

from .stages import Stage, stages_of, stem_of


@MODELS.register_module()
class TwoStreamResNet(BaseModule):
    """Five levels of features of each modality: the stem at 1/2, then the four stages at 1/4 to 1/32.

    Args:
        stream (dict): a ResNet of mmseg or mmpretrain, e.g. ``dict(type='ResNet', depth=50)``.
        shared (bool): one ResNet for both modalities, infrared three times as its channels; else infrared has a ResNet
            of its own, of one channel. Where ``stream`` is pretrained, this one starts with the same weights, those of
            the first convolution averaged over the colours. Default: True.
        levels (int): how many levels are computed. Default: 5.
        init_cfg (dict, optional): as in mmengine.

    Attributes:
        channels (list[int]): of each level.
    """

    def __init__(self, stream: dict, shared: bool = True, levels: int = 5, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        stages = levels - 1
        stream = {**stream, 'num_stages': stages, 'strides': (1, 2, 2, 2)[:stages], 'out_indices': tuple(range(stages))}
        stream['dilations'] = (1,) * stages
        self.visible = MMENGINE_MODELS.build(stream)
        self._pretrained = 'Pretrained' in str(stream.get('init_cfg'))
        if shared:
            self.infrared = None
        else:
            own = {**stream, 'in_channels': 1}
            self.infrared = MMENGINE_MODELS.build({**own, 'init_cfg': None} if self._pretrained else own)
        self.channels = [stage.channels for stage in _levels(self.visible)]

    def init_weights(self) -> None:
        super().init_weights()
        if self.infrared is not None and self._pretrained:
            state = self.visible.state_dict()
            first = next(name for name, value in state.items() if value.dim() == 4)
            self.infrared.load_state_dict({**state, first: state[first].mean(1, keepdim=True)})

    def forward(self, pairs: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(N, 4, H, W), normalised, B,G,R,IR -> (visible, infrared) of each level, (N, C_i, H_i, W_i) each."""
        visible, infrared = pairs[:, :3].flip(1), pairs[:, 3:]  # to R,G,B, as ImageNet's weights are
        if self.infrared is None:
            infrared = infrared.expand(-1, 3, -1, -1)
        return list(zip(self._features(self.visible, visible), self._features(self.infrared, infrared), strict=True))

    def _features(self, resnet: nn.Module | None, x: Tensor) -> list[Tensor]:
        found = []
        for level in _levels(resnet or self.visible):
            x = level(x)
            found.append(x)
        return found


def _levels(resnet: nn.Module) -> list[Stage]:
    """The stem, and the stages after it."""
    stem, (first, *rest) = stem_of(resnet), stages_of(resnet)
    return [stem, first._replace(parts=first.parts[len(stem.parts) :]), *rest]
