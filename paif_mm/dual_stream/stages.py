"""Backbones in parts, so that something may happen between two of them."""

from typing import NamedTuple

from mmseg.models.utils import nlc_to_nchw
from torch import Tensor, nn


class Stage(NamedTuple):
    """What leads from one of a backbone's outputs to the next; ``channels`` of the latter."""

    parts: list
    channels: int

    def __call__(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


def stem_of(resnet: nn.Module) -> Stage:
    """A ResNet's first convolution, up to its pooling: features at half the size."""
    if resnet.deep_stem:
        return Stage([resnet.stem], _convolutions(resnet.stem)[-1].out_channels)
    return Stage([resnet.conv1, resnet.norm1, resnet.relu], resnet.conv1.out_channels)


def stages_of(backbone: nn.Module) -> list[Stage]:
    """The parts between the outputs of a ResNet, MobileNetV2 or MixVisionTransformer of OpenMMLab, in their order.

    A ResNet's first one begins at its stem.

    Raises:
        TypeError: it is another backbone.
    """
    layers = getattr(backbone, 'layers', None)
    if hasattr(backbone, 'res_layers'):
        first, parts = [*stem_of(backbone).parts, backbone.maxpool], _named(backbone, backbone.res_layers)
        channels = [getattr(part[-1], 'conv3', part[-1].conv2).out_channels for part in parts]
    elif isinstance(layers, nn.ModuleList):
        first, parts = [], [_Transformers(*layer) for layer in layers]
        channels = [part.norm.normalized_shape[0] for part in parts]
    elif isinstance(layers, list):
        first, parts = [backbone.conv1], _named(backbone, layers)
        channels = [_convolutions(part)[-1].out_channels for part in parts]
    else:
        raise TypeError(
            f'two streams are made of ResNets, MobileNetV2 and MixVisionTransformer, not of {type(backbone).__name__}'
        )
    ends = sorted(backbone.out_indices)
    starts = [0, *(end + 1 for end in ends)]
    stages = [Stage(parts[start : end + 1], channels[end]) for start, end in zip(starts, ends, strict=False)]
    return [stages[0]._replace(parts=[*first, *stages[0].parts]), *stages[1:]]


class _Transformers(NamedTuple):
    """One stage of a MixVisionTransformer: (N, C, H, W) -> (N, D, h, w)."""

    embed: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        x, size = self.embed(x)
        for block in self.blocks:
            x = block(x, size)
        return nlc_to_nchw(self.norm(x), size)


def _named(module: nn.Module, names: list[str]) -> list[nn.Module]:
    return [getattr(module, name) for name in names]


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]
