"""The two modalities of a pair, each through a ResNet."""

from collections.abc import Iterator

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from paif_mm.registry import MODELS


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
        stream = {**stream, 'num_stages': stages, 'strides': (1, 2, 2, 2)[:stages], 'out_indices': (stages - 1,)}
        stream['dilations'] = (1,) * stages
        self.visible = MMENGINE_MODELS.build(stream)
        self._pretrained = 'Pretrained' in str(stream.get('init_cfg'))
        if shared:
            self.infrared = None
        else:
            own = {**stream, 'in_channels': 1}
            self.infrared = MMENGINE_MODELS.build({**own, 'init_cfg': None} if self._pretrained else own)
        self.channels = [_stem_channels(self.visible), *map(_stage_channels, _stages(self.visible))]

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
        both = _levels(self.visible, visible), _levels(self.visible if self.infrared is None else self.infrared, infrared)
        return list(zip(*both, strict=True))


def _levels(resnet: nn.Module, x: Tensor) -> Iterator[Tensor]:
    x = resnet.stem(x) if resnet.deep_stem else resnet.relu(resnet.norm1(resnet.conv1(x)))
    yield x
    x = resnet.maxpool(x)
    for stage in _stages(resnet):
        x = stage(x)
        yield x


def _stages(resnet: nn.Module) -> list[nn.Module]:
    return [getattr(resnet, name) for name in resnet.res_layers]


def _stem_channels(resnet: nn.Module) -> int:
    return resnet.stem[-2].num_features if resnet.deep_stem else resnet.conv1.out_channels


def _stage_channels(stage: nn.Module) -> int:
    block = stage[-1]
    return getattr(block, 'conv3', block.conv2).out_channels
