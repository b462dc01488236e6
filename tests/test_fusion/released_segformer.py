"""SegFormer (Xie et al. 2021) written straightforwardly with its authors' parameter names, for the converter's test."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SegFormer(nn.Module):
    """Original MiT encoder, all-linear decoder, and an unused classifier, named as in a released PAIF checkpoint."""

    def __init__(self, widths: list[int], heads: list[int], depths: list[int], decoder_width: int, classes: int):
        super().__init__()
        self.encoder = MiT(widths, heads, depths)
        self.decoder = Decoder(widths, decoder_width, classes)
        self.classifier = nn.Conv2d(widths[-1], classes, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.decoder(self.encoder(image))


class MiT(nn.Module):
    REDUCTIONS = [8, 4, 2, 1]

    def __init__(self, widths, heads, depths):
        super().__init__()
        for i, width in enumerate(widths, 1):
            blocks = [Block(width, heads[i - 1], self.REDUCTIONS[i - 1]) for _ in range(depths[i - 1])]
            setattr(self, f'patch_embed{i}', PatchEmbed(widths[i - 2] if i > 1 else 3, width, 7 if i == 1 else 3))
            setattr(self, f'block{i}', nn.ModuleList(blocks))
            setattr(self, f'norm{i}', nn.LayerNorm(width, eps=1e-6))

    def forward(self, x):
        outputs = []
        for i in range(1, 5):
            x, size = getattr(self, f'patch_embed{i}')(x)
            for block in getattr(self, f'block{i}'):
                x = block(x, size)
            x = to_image(getattr(self, f'norm{i}')(x), size)
            outputs.append(x)
        return outputs


class PatchEmbed(nn.Module):
    def __init__(self, inputs, width, kernel):
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, kernel, stride=4 if kernel == 7 else 2, padding=kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.proj(x)
        return self.norm(to_tokens(x)), x.shape[-2:]


class Block(nn.Module):
    def __init__(self, width, heads, reduction):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads, reduction), Mlp(width)

    def forward(self, x, size):
        x = x + self.attn(self.norm1(x), size)
        return x + self.mlp(self.norm2(x), size)


class Attention(nn.Module):
    def __init__(self, width, heads, reduction):
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x, size):
        source = self.norm(to_tokens(self.sr(to_image(x, size)))) if self.reduction > 1 else x
        query, key, value = (self.split(y) for y in (self.q(x), *self.kv(source).chunk(2, -1)))
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))

    def split(self, x):  # (N, L, C) -> (N, heads, L, C / heads)
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dwconv = nn.ModuleDict({'dwconv': nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)})

    def forward(self, x, size):
        x = to_tokens(self.dwconv['dwconv'](to_image(self.fc1(x), size)))
        return self.fc2(F.gelu(x))


class Decoder(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        for i, channels in enumerate(inputs, 1):
            setattr(self, f'linear_c{i}', nn.ModuleDict({'proj': nn.Linear(channels, width)}))
        self.linear_fuse = nn.Sequential()
        self.linear_fuse.add_module('conv', nn.Conv2d(4 * width, width, 1, bias=False))
        self.linear_fuse.add_module('bn', nn.BatchNorm2d(width))
        self.linear_pred = nn.Conv2d(width, classes, 1)

    def forward(self, features):
        size = features[0].shape[-2:]
        parts = []
        for i, x in reversed(list(enumerate(features, 1))):  # the deepest stage first
            x = to_image(getattr(self, f'linear_c{i}')['proj'](to_tokens(x)), x.shape[-2:])
            parts.append(F.interpolate(x, size, mode='bilinear', align_corners=False))
        return self.linear_pred(F.relu(self.linear_fuse(torch.cat(parts, 1))))


def to_tokens(x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, HW, C)
    return x.flatten(2).transpose(1, 2)


def to_image(x: Tensor, size) -> Tensor:
    return x.transpose(1, 2).unflatten(-1, tuple(size))
