"""Rules that merge the two modalities' features (PAIF, ACM MM 2023, Sec. 2.1), by the paper's names.

Every rule maps ``(ir, vis)``, each (N, C, H, W), to (N, C, H, W); ``RULES[name](channels)`` builds it. The sixth rule
of the paper, DC (direct combination), merges the source images instead: see :class:`~.baseline.FusionBaseline`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .channels import channel_max
from .operations import conv


class Maximum(nn.Module):
    """``MAX``: the larger of both, element by element."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return torch.maximum(ir, vis)


class WeightedAverage(nn.Module):
    """``WA``: ``ir_weight * ir + vis_weight * vis`` with weights set by hand."""

    def __init__(self, ir_weight: float = 0.5, vis_weight: float = 0.5):
        super().__init__()
        self.ir_weight = ir_weight
        self.vis_weight = vis_weight

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return self.ir_weight * ir + self.vis_weight * vis


class AdaptiveAverage(nn.Module):
    """``AA``: per-pixel convex combination of two feature maps.

    ``M * ir + (1 - M) * vis``, where M = sigmoid(conv5x5([max_c ir, mean_c ir, max_c vis, mean_c vis])) in (0, 1).
    """

    def __init__(self):
        super().__init__()
        self.conv = conv(4, 1, 5)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Merge ``ir`` and ``vis``, each (N, C, H, W), into (N, C, H, W)."""
        pooled = [pool for x in (ir, vis) for pool in (channel_max(x), x.mean(1, keepdim=True))]
        weight = self.conv(torch.cat(pooled, 1)).sigmoid()  # (N, 1, H, W)
        return torch.lerp(vis, ir, weight.to(ir.dtype))


class Summation(nn.Module):
    """``SUM``: ``ir + vis``."""

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return ir + vis


class Concatenation(nn.Module):
    """``CC``: both, one behind the other, and a 1x1 convolution back to C channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv(2 * channels, channels, 1)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        return self.conv(torch.cat([ir, vis], 1))


#: Name -> (channels) -> rule.
RULES: dict[str, Callable[[int], nn.Module]] = {
    'MAX': lambda channels: Maximum(),
    'WA': lambda channels: WeightedAverage(),
    'AA': lambda channels: AdaptiveAverage(),
    'SUM': lambda channels: Summation(),
    'CC': Concatenation,
}
