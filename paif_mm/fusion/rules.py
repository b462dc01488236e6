"""Rules that merge the two modalities' features."""

import torch
from torch import Tensor, nn

from .operations import conv


class AdaptiveAverage(nn.Module):
    """Per-pixel convex combination of two feature maps (PAIF, ACM MM 2023, Sec. 2.1: 'adaptive average').

    ``M * ir + (1 - M) * vis``, where M = sigmoid(conv5x5([max_c ir, mean_c ir, max_c vis, mean_c vis])) in (0, 1).
    """

    def __init__(self):
        super().__init__()
        self.conv = conv(4, 1, 5)

    def forward(self, ir: Tensor, vis: Tensor) -> Tensor:
        """Merge ``ir`` and ``vis``, each (N, C, H, W), into (N, C, H, W)."""
        pooled = [pool for x in (ir, vis) for pool in (x.amax(1, keepdim=True), x.mean(1, keepdim=True))]
        weight = self.conv(torch.cat(pooled, 1)).sigmoid()  # (N, 1, H, W)
        return torch.lerp(vis, ir, weight.to(ir.dtype))
