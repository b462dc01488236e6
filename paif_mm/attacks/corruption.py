"""What weather, light and ageing sensors do to a pair: no adversary, one modality at a time."""

import zlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.registry import ATTACKS
from paif_mm.spelling import choices

from .attack import Attack, AttackResult
from .frozen import unwrap

SEVERITIES = (1, 2, 3, 4, 5)

# Each takes the channels of one modality (C, H, W) in [0, 255], a severity's setting, and a CPU generator.


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


def blur(image: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """Gaussian, as of a lens out of focus; sigma in pixels of an image of 480 rows."""
    sigma = sigma * image.shape[1] / 480
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


def saturation(image: Tensor, gain: float, rng: torch.Generator) -> Tensor:
    """Too high a gain around the image's mean: warm and cold parts clip."""
    mean = image.mean()
    return mean + gain * (image - mean)


def missing(image: Tensor, setting: None, rng: torch.Generator) -> Tensor:
    """All zero: the camera is off."""
    return torch.zeros_like(image)


#: name -> (modality, function, settings of severities 1 to 5). The noise levels are ImageNet-C's (Hendrycks and
#: Dietterich, ICLR 2019); the others are ours.
CORRUPTIONS: dict[str, tuple[slice, Callable, Sequence]] = {
    'fog': (VISIBLE, fog, (0.7, 0.55, 0.4, 0.25, 0.15)),
    'low_light': (VISIBLE, low_light, (0.4, 0.2, 0.1, 0.05, 0.02)),
    'blur': (VISIBLE, blur, (1, 2, 3, 4, 6)),
    'noise': (VISIBLE, noise, (20.4, 30.6, 45.9, 66.3, 96.9)),
    'dead_pixels': (INFRARED, dead_pixels, (0.005, 0.01, 0.03, 0.06, 0.1)),
    'non_uniformity': (INFRARED, non_uniformity, (0.01, 0.02, 0.04, 0.08, 0.12)),
    'saturation': (INFRARED, saturation, (1.5, 2, 3, 5, 8)),
    'missing_visible': (VISIBLE, missing, (None,) * 5),
    'missing_infrared': (INFRARED, missing, (None,) * 5),
}


@ATTACKS.register_module()
class Corruption(Attack):
    """Corrupts one modality of a pair, as :data:`CORRUPTIONS` says; used like an attack, but asks the model nothing.

    What is random depends on ``seed`` and the pair alone, not on its place in the data set or in a batch.

    Args:
        name (str): a key of :data:`CORRUPTIONS`.
        severity (int): 1 to 5; a missing modality knows no degrees.
        seed (int): another seed, other noise.
        objective (dict): see :class:`~.attack.Attack`; only measured.

    Raises:
        ValueError: an unknown name or severity.
    """

    def __init__(self, name: str, severity: int = 3, seed: int = 0, objective: dict | None = None):
        super().__init__(objective)
        if name not in CORRUPTIONS:
            raise ValueError(f'there is no Corruption {name!r}: {choices(name, CORRUPTIONS)}')
        if severity not in SEVERITIES:
            raise ValueError(f'severity must be 1 to 5, not {severity}')
        self.modality, self.function, settings = CORRUPTIONS[name]
        self.setting = settings[severity - 1]
        self.seed = seed

    def __call__(self, model, data_batch: dict, index=None, training: bool = False, rng=None):
        """Corrupt some pairs of a batch; see :class:`~.attack.Attack`. ``rng`` is not needed.

        Raises:
            ValueError: an image is no pair.
        """
        device = next(unwrap(model).parameters()).device
        index = list(range(len(data_batch['inputs']))) if index is None else list(index)
        clean = [data_batch['inputs'][i].to(device).float() for i in index]
        return AttackResult(index, [self.corrupt(pair) for pair in clean], clean, None)

    def corrupt(self, pair: Tensor) -> Tensor:
        """(4, H, W) in [0, 255] to the same, in whole levels."""
        if pair.size(0) != 4:
            raise ValueError(f'Corruption needs pairs (4, H, W), but an input has {pair.size(0)} channels')
        content = pair.round().clamp(0, 255).to(torch.uint8).cpu().numpy().tobytes()
        rng = torch.Generator().manual_seed(zlib.crc32(content) + self.seed)
        corrupted = pair.clone()
        corrupted[self.modality] = self.function(pair[self.modality], self.setting, rng).round().clamp(0, 255)
        return corrupted
