"""Real trouble: what weather, light, sensors and their mounting do to a pair. No adversary chooses it.

:data:`CORRUPTIONS` is the table of all; :class:`paif_mm.attacks.Corruption` applies one like an attack.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Generator, Tensor

from paif_mm.data.colour import INFRARED, VISIBLE

from .imagenet_c import NAMES, common_corruption
from .registration import parallax, rotation, shift
from .sensors import blur, contrast, crossover, dead_pixels, missing, noise, non_uniformity
from .weather import fog, glare, low_light, rain

SEVERITIES = (1, 2, 3, 4, 5)
PAIR = slice(0, 4)
WEATHER, EYE, HEAT, BETWEEN, BOTH, OFF, COMMON = FAMILIES = (
    'weather and light',
    'visible sensor',
    'infrared',
    'between the sensors',
    'both at once',
    'a sensor is off',
    'ImageNet-C, visible',
)
TIME_OFFSET = 'time_offset'


class Trouble(NamedTuple):
    """A corruption.

    Attributes:
        family (str): of :data:`FAMILIES`.
        channels (slice): what it changes, and is given.
        function: ``(channels (C, H, W) in [0, 255], setting, CPU generator) -> the same, unclipped``.
        settings: of severities 1 to 5.
    """

    family: str
    channels: slice
    function: Callable
    settings: Sequence


def together(*names: str) -> Callable[[Tensor, int, Generator], Tensor]:
    """Several corruptions of the table one after the other, each with its setting of the severity."""

    def function(pair: Tensor, severity: int, rng: Generator) -> Tensor:
        for name in names:
            pair = corrupted(name, pair, severity, rng)
        return pair

    return function


def corrupted(name: str, pair: Tensor, severity: int, rng: Generator) -> Tensor:
    """A pair (4, H, W), or a visible image (3, H, W) where the corruption is one of these, in whole levels."""
    _, channels, function, settings = CORRUPTIONS[name]
    found = pair.clone()
    found[channels] = function(pair[channels], settings[severity - 1], rng).round().clamp(0, 255)
    return found


def frames_before(infrared: Tensor, frames: int, rng: Generator) -> Tensor:
    """Of :data:`TIME_OFFSET`, which needs the images before this one: see :class:`~.frames.Frames`."""
    raise ValueError(f'{TIME_OFFSET} needs the data set that is tested: use tools/robustness.py or tools/test.py')


#: name -> what it does. The noise levels are ImageNet-C's (Hendrycks and Dietterich, ICLR 2019), as are ``common_...``;
#: the other settings are ours.
CORRUPTIONS: dict[str, Trouble] = {
    'fog': Trouble(WEATHER, VISIBLE, fog, (0.7, 0.55, 0.4, 0.25, 0.15)),
    'low_light': Trouble(WEATHER, VISIBLE, low_light, (0.4, 0.2, 0.1, 0.05, 0.02)),
    'rain': Trouble(WEATHER, VISIBLE, rain, ((1, 12, 0.05), (2, 16, 0.12), (3, 20, 0.2), (5, 26, 0.3), (8, 32, 0.4))),
    'glare': Trouble(WEATHER, VISIBLE, glare, ((0.04, 0.02), (0.07, 0.05), (0.11, 0.1), (0.17, 0.2), (0.25, 0.35))),
    'blur': Trouble(EYE, VISIBLE, blur, (1, 2, 3, 4, 6)),
    'noise': Trouble(EYE, VISIBLE, noise, (20.4, 30.6, 45.9, 66.3, 96.9)),
    'dead_pixels': Trouble(HEAT, INFRARED, dead_pixels, (0.005, 0.01, 0.03, 0.06, 0.1)),
    'non_uniformity': Trouble(HEAT, INFRARED, non_uniformity, (0.01, 0.02, 0.04, 0.08, 0.12)),
    'saturation': Trouble(HEAT, INFRARED, contrast, (1.5, 2, 3, 5, 8)),
    'low_contrast': Trouble(HEAT, INFRARED, contrast, (0.7, 0.5, 0.35, 0.2, 0.1)),
    'infrared_blur': Trouble(HEAT, INFRARED, blur, (1, 2, 3, 4, 6)),
    'infrared_noise': Trouble(HEAT, INFRARED, noise, (20.4, 30.6, 45.9, 66.3, 96.9)),
    'crossover': Trouble(HEAT, INFRARED, crossover, (0.5, 0.25, 0.0, -0.5, -1.0)),
    'shift': Trouble(BETWEEN, INFRARED, shift, (2, 4, 8, 16, 32)),
    'rotation': Trouble(BETWEEN, INFRARED, rotation, (0.5, 1, 2, 4, 8)),
    'parallax': Trouble(BETWEEN, INFRARED, parallax, (4, 8, 16, 32, 64)),
    TIME_OFFSET: Trouble(BETWEEN, INFRARED, frames_before, SEVERITIES),
    'foggy_night': Trouble(BOTH, PAIR, together('fog', 'low_light', 'low_contrast'), SEVERITIES),
    'rainy_night': Trouble(BOTH, PAIR, together('rain', 'low_light', 'infrared_noise'), SEVERITIES),
    'rainy_dusk': Trouble(BOTH, PAIR, together('rain', 'crossover'), SEVERITIES),
    'worn_rig': Trouble(BOTH, PAIR, together('blur', 'noise', 'dead_pixels', 'non_uniformity', 'shift'), SEVERITIES),
    'missing_visible': Trouble(OFF, VISIBLE, missing, (None,) * 5),
    'missing_infrared': Trouble(OFF, INFRARED, missing, (None,) * 5),
    **{f'common_{name}': Trouble(COMMON, VISIBLE, common_corruption(name), SEVERITIES) for name in NAMES},
}
