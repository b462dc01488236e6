"""Two cameras that are not quite registered: the infrared image moves, labels stay with the visible one.

Signatures as in :mod:`.weather`. What comes in at a border repeats the pixels there.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .weather import scaled, uniform

BANDS = 4  # of depth, from the horizon down


def shift(image: Tensor, length: float, rng: torch.Generator) -> Tensor:
    """By so many pixels of an image of 480 rows, in any direction."""
    angle = uniform(0, 2 * math.pi, rng)
    length = scaled(length, image)
    return moved(image, torch.tensor(length * math.sin(angle)), torch.tensor(length * math.cos(angle)))


def rotation(image: Tensor, degrees: float, rng: torch.Generator) -> Tensor:
    """About the middle, to either side."""
    angle = math.radians(degrees) * (1 if uniform(-1, 1, rng) > 0 else -1)
    height, width = image.shape[1:]
    rows, columns = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing='ij'
    )
    down = rows * (math.cos(angle) - 1) + columns * math.sin(angle)
    right = columns * (math.cos(angle) - 1) - rows * math.sin(angle)
    return moved(image, -down, -right)


def parallax(image: Tensor, disparity: float, rng: torch.Generator) -> Tensor:
    """Cameras side by side, registered far away: what is near is displaced sideways, one way or the other.

    On a flat road seen level the disparity grows in proportion to the distance below the horizon, here the middle row;
    in four bands, the lowest of which is displaced by ``disparity`` pixels of an image of 480 rows.
    """
    height = image.shape[1]
    side = 1 if uniform(-1, 1, rng) > 0 else -1
    below = (torch.arange(height) + 0.5) / height * 2 - 1  # 0 at the horizon, 1 at the bottom
    nearness = (below * BANDS).ceil().clamp(0, BANDS) / BANDS
    return moved(image, torch.tensor(0.0), side * scaled(disparity, image) * nearness[:, None])


def moved(image: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Content (C, H, W) moved by so many pixels, each broadcast to (H, W), bilinearly."""
    height, width = image.shape[1:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    sides = (columns - right, width), (rows - down, height)
    places = torch.stack([(at + 0.5) / size * 2 - 1 for at, size in sides], -1)[None]
    return F.grid_sample(image[None], places.to(image), padding_mode='border', align_corners=False)[0]
