"""Weather and light in the visible image.

Each function takes the channels of one modality (C, H, W) in [0, 255], a severity's setting, and a CPU generator; so do
those of the other modules. Lengths are in pixels of an image of 480 rows.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 480


def scaled(length: float, image: Tensor) -> float:
    """A length in an image of 480 rows in pixels of this one."""
    return length * image.shape[1] / ROWS


def uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def fog(image: Tensor, transmission: float, rng: torch.Generator) -> Tensor:
    """Koschmieder's law with light grey air, thicker and thinner in patches: t J + (1 - t) A."""
    coarse = torch.rand(1, 1, 4, 5, generator=rng)
    patches = F.interpolate(coarse, image.shape[1:], mode='bicubic', align_corners=True)[0].clamp(0, 1)
    t = (transmission ** (0.5 + patches)).to(image)
    return t * image + (1 - t) * 220


def low_light(image: Tensor, light: float, rng: torch.Generator) -> Tensor:
    """A share of the light; photon noise of a sensor that counts 1000 electrons at white; 2 levels of read noise."""
    electrons = image.cpu() * (light * 1000 / 255)
    counted = torch.poisson(electrons, generator=rng) * (255 / 1000)
    return (counted + 2 * torch.randn(image.shape, generator=rng)).to(image)


def rain(image: Tensor, setting: tuple[float, float, float], rng: torch.Generator) -> Tensor:
    """Streaks of one slant that whiten what is behind them, before a veil of grey, as far rain is.

    Args:
        setting: (streaks per 1000 pixels of 480 rows, their length, share of the veil).
    """
    density, length, veil = setting
    slant = uniform(-20, 20, rng)
    drops = torch.rand(1, 1, *image.shape[1:], generator=rng) < density / 1000 / max(scaled(1, image), 1e-6) ** 2
    brightness = 0.3 + 0.5 * torch.rand(drops.shape, generator=rng)
    line = _line(max(scaled(length, image), 1.0), slant)
    streaks = F.conv2d(drops * brightness, line, padding=line.shape[-1] // 2)[0].clamp(max=0.8).to(image)
    hazy = (1 - veil) * image + veil * 180
    return hazy + streaks * (255 - hazy)


def _line(length: float, slant: float) -> Tensor:
    """(1, 1, K, K): a line of width 1 through the middle, slanted from the vertical by so many degrees."""
    reach = int(math.ceil(length / 2))
    rows, columns = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing='ij')
    angle = math.radians(slant)
    along = rows * math.cos(angle) + columns * math.sin(angle)
    across = columns * math.cos(angle) - rows * math.sin(angle)
    inside = (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(0, 1)
    return inside[None, None]


def glare(image: Tensor, setting: tuple[float, float], rng: torch.Generator) -> Tensor:
    """A light in the upper half: white in its core, a halo that falls with the square of the distance, as stray light
    in a lens does (the CIE's disability glare), and an even veil.

    Args:
        setting: (radius of the core as a share of the height, share of the veil).
    """
    size, veil = setting
    height, width = image.shape[1:]
    top, left = uniform(0.1, 0.5, rng) * height, uniform(0.2, 0.8, rng) * width
    rows, columns = torch.meshgrid(torch.arange(height) - top, torch.arange(width) - left, indexing='ij')
    distance = (rows.square() + columns.square()) / (size * height) ** 2
    light = (veil + (1 - veil) / distance.clamp_min(1)).to(image)
    return image + light * (255 - image)
