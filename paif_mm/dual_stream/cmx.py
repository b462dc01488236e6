"""CMX (Zhang et al., T-ITS 2023): two backbones that rectify each other after every stage."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from paif_mm.registry import MODELS

from .stages import stages_of

RECTIFIED = 0.5  # lambda_C and lambda_S


@MODELS.register_module()
class CMX(BaseModule):
    """A backbone of pairs for any head of mmseg: a stream for each modality, rectified and fused after every stage.

    Infrared is given three times, as the channels of a backbone like the visible one, so that both may be pretrained.

    Args:
        stream (dict): a ResNet, MobileNetV2 or MixVisionTransformer of mmseg or mmpretrain; there are two of it. Its
            ``out_indices`` are the stages.
        num_heads (Sequence[int]): of the cross-attention at each stage; they divide its channels. Default: 1, 2, 5, 8,
            the paper's for MixVisionTransformer.
        init_cfg (dict, optional): as in mmengine.

    Raises:
        ValueError: another number of heads than of stages, or one that does not divide a stage's channels.
    """

    def __init__(self, stream: dict, num_heads: Sequence[int] = (1, 2, 5, 8), init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.visible = MMENGINE_MODELS.build(stream)
        self.infrared = MMENGINE_MODELS.build(stream)
        channels = [stage.channels for stage in stages_of(self.visible)]
        if len(num_heads) != len(channels) or any(c % heads for c, heads in zip(channels, num_heads, strict=True)):
            raise ValueError(
                f'num_heads of CMX, {tuple(num_heads)}, must divide the channels of its stages, {channels}'
            )
        self.rectify = nn.ModuleList(map(Rectification, channels))
        self.fuse = nn.ModuleList(map(Fusion, channels, num_heads))
        self.rectify.apply(_as_transformers_begin)
        self.fuse.apply(_as_transformers_begin)

    def forward(self, pairs: Tensor) -> tuple[Tensor, ...]:
        """(N, 4, H, W), normalised, B,G,R,IR -> fused features (N, C_i, H_i, W_i) of every stage."""
        visible, infrared = pairs[:, :3].flip(1), pairs[:, 3:].expand(-1, 3, -1, -1)  # to R,G,B, as ImageNet's weights
        stages = zip(stages_of(self.visible), stages_of(self.infrared), self.rectify, self.fuse, strict=True)
        fused = []
        for visibly, infraredly, rectify, fuse in stages:
            visible, infrared = rectify(visibly(visible), infraredly(infrared))
            fused.append(fuse(visible, infrared))
        return tuple(fused)


class Rectification(nn.Module):
    """CM-FRM: to each modality is added the other's, weighed by channel and by place.

    x' = x + lambda_C w_C(x, y) y + lambda_S w_S(x, y) y, with lambda_C = lambda_S = 1/2 and weights in (0, 1) that both
    modalities decide.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(4 * channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, 2 * channels), nn.Sigmoid()
        )
        self.place = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, 2, 1), nn.Sigmoid()
        )

    def forward(self, visible: Tensor, infrared: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([visible, infrared], 1)
        pooled = torch.cat([both.mean((2, 3)), both.amax((2, 3))], 1)
        of_visible, of_infrared = self.channel(pooled)[..., None, None].chunk(2, 1)  # (N, C, 1, 1)
        where_visible, where_infrared = self.place(both).chunk(2, 1)  # (N, 1, H, W)
        return (
            visible + RECTIFIED * (of_infrared + where_infrared) * infrared,
            infrared + RECTIFIED * (of_visible + where_visible) * visible,
        )


class Fusion(nn.Module):
    """FFM: cross-attention of the two modalities, then one embedding of both, with a depthwise 3x3 convolution."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.exchange = Exchange(channels, heads)
        self.shortcut = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.embed = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        size = visible.shape[-2:]
        both = torch.cat(self.exchange(*(x.flatten(2).mT for x in (visible, infrared))), -1)  # (N, H W, 2 C)
        both = both.mT.unflatten(-1, size)
        return self.norm(self.shortcut(both) + self.embed(both))


class Exchange(nn.Module):
    """Each modality asks for the other's context, a softmax over channels of K^T V, of linear cost in pixels.

    (N, P, C) each: r, q = relu(W x); context G = softmax(K(q)^T V(q) / sqrt(d)); x' = norm(x + W' [r, q G_other]).
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.split, self.context, self.merge, self.norm = (
            nn.ModuleList(layer(*sizes, **settings) for _ in range(2))
            for layer, sizes, settings in (
                (nn.Linear, (channels, 2 * channels), {}),
                (nn.Linear, (channels, 2 * channels), {'bias': False}),
                (nn.Linear, (2 * channels, channels), {}),
                (nn.LayerNorm, (channels,), {}),
            )
        )

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        halves = [split(x).relu().chunk(2, -1) for split, x in zip(self.split, inputs, strict=True)]
        contexts = [self._context(layer, query) for layer, (_, query) in zip(self.context, halves, strict=True)]
        found = []
        for x, (rest, query), other, merge, norm in zip(
            inputs, halves, reversed(contexts), self.merge, self.norm, strict=True
        ):
            answer = (self._by_head(query) @ other).transpose(1, 2).flatten(2)  # (N, P, C)
            found.append(norm(x + merge(torch.cat([rest, answer], -1))))
        return found

    def _context(self, layer: nn.Module, query: Tensor) -> Tensor:
        keys, values = map(self._by_head, layer(query).chunk(2, -1))
        return (keys.mT @ values * keys.size(-1) ** -0.5).softmax(-2)  # (N, heads, d, d)

    def _by_head(self, x: Tensor) -> Tensor:
        """(N, P, C) -> (N, heads, P, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _as_transformers_begin(module: nn.Module) -> None:
    """Weights of a layer as MixVisionTransformer's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
