"""Labels of side outputs, made of those of the segmentation."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 5  # of LASNet's boundaries


def foreground(labels: Tensor, ignore_index: int) -> Tensor:
    """Whether a pixel is of another class than 0, the background: 0 or 1, ignored pixels stay ignored.

    Args:
        labels: (N, 1, H, W), whole numbers.
    """
    return torch.where(labels == ignore_index, labels, (labels > 0).to(labels.dtype))


def boundaries(labels: Tensor, ignore_index: int) -> Tensor:
    """Whether the 5x5 pixels around one hold two classes: 0 or 1, ignored pixels stay ignored and bound nothing.

    Beyond the image there is no class; LASNet's own maps have the background there, so that things are bounded by the
    frame.

    Args:
        labels: (N, 1, H, W), whole numbers.
    """
    ignored = labels == ignore_index
    values = labels.float()
    highest = _window_max(values.masked_fill(ignored, -torch.inf))
    lowest = -_window_max((-values).masked_fill(ignored, -torch.inf))
    return torch.where(ignored, labels, (highest > lowest).to(labels.dtype))


def _window_max(values: Tensor) -> Tensor:
    return F.max_pool2d(values, WINDOW, stride=1, padding=WINDOW // 2)
