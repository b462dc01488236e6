"""What sensors do to their images, and what temperatures do to contrast; signatures as in :mod:`.weather`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .weather import scaled


def blur(image: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """Gaussian, as of a lens out of focus; sigma in pixels of an image of 480 rows."""
    sigma = scaled(sigma, image)
    reach = min(max(int(3 * sigma + 0.5), 1), min(image.shape[1:]) - 1)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2)).to(image)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    rows = F.conv2d(F.pad(image[:, None], (reach, reach, 0, 0), mode='reflect'), kernel)
    return F.conv2d(F.pad(rows, (0, 0, reach, reach), mode='reflect'), kernel.transpose(2, 3))[:, 0]


def noise(image: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """White Gaussian noise, std in levels."""
    return image + (std * torch.randn(image.shape, generator=rng)).to(image)


def dead_pixels(image: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """A share of the pixels is stuck, half of them at black, half at white."""
    draw = torch.rand(image.shape[1:], generator=rng).to(image.device)
    return torch.where(draw < share / 2, 0.0, torch.where(draw < share, 255.0, image))


def non_uniformity(image: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """Fixed-pattern noise of an uncooled array: an offset per column, and gains that differ half as much, in shares."""
    width = image.shape[2]
    offset = 255 * std * torch.randn(width, generator=rng)
    gain = 1 + std / 2 * torch.randn(width, generator=rng)
    return image * gain.to(image) + offset.to(image)


def contrast(image: Tensor, gain: float, rng: torch.Generator) -> Tensor:
    """Another gain around the image's mean: high, so that warm and cold parts clip, or low, as in air that absorbs."""
    mean = image.mean()
    return mean + gain * (image - mean)


def crossover(image: Tensor, contrast_left: float, rng: torch.Generator) -> Tensor:
    """Thermal crossover: at dawn and dusk things are as warm as what is around them, and then colder instead of warmer.
    The contrast shrinks, is none, and comes back with inverted polarity; the sensor's noise (2 levels) stays."""
    return noise(contrast(image, contrast_left, rng), 2.0, rng)


def missing(image: Tensor, setting: None, rng: torch.Generator) -> Tensor:
    """All zero: the camera is off."""
    return torch.zeros_like(image)
