"""The common corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019) on the visible image.

As the package imagecorruptions gives them for images of any size (Michaelis et al. 2019), in the fork that current
scikit-image runs: ``pip install -r requirements/corruptions.txt``.
"""

import contextlib
import inspect
import io
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from paif_mm.randomness import fixed_draws

INSTALL = 'pip install -r requirements/corruptions.txt'
LEAST = 32  # pixels of a side
NAMES = (
    *('gaussian_noise', 'shot_noise', 'impulse_noise'),
    *('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    *('snow', 'frost', 'fog', 'brightness'),
    *('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
)


def is_installed() -> bool:
    return find_spec('imagecorruptions') is not None


def common_corruption(name: str) -> Callable[[Tensor, int, torch.Generator], Tensor]:
    """The function of a corruption by its published name; its setting is the severity, 1 to 5."""
    return partial(_corrupted, name)


def _corrupted(name: str, image: Tensor, severity: int, rng: torch.Generator) -> Tensor:
    """(3, H, W) B,G,R to the same.

    Raises:
        ValueError: the image is too small, or see :func:`published`.
    """
    function = published(name)
    if min(image.shape[1:]) < LEAST:
        raise ValueError(
            f'common_{name} needs images of at least {LEAST}x{LEAST}, not {image.shape[1]}x{image.shape[2]}'
        )
    seed = int(torch.randint(2**31, (), generator=rng))
    seeded = {'seed': seed} if 'seed' in inspect.signature(function).parameters else {}
    rgb = image.flip(0).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    with fixed_draws('cpu', seed), contextlib.redirect_stdout(io.StringIO()):  # it tells of its own workarounds
        found = function(Image.fromarray(rgb), severity, **seeded)
    return torch.from_numpy(np.array(found).astype(np.uint8)).permute(2, 0, 1).flip(0).to(image)


def published(name: str) -> Callable:
    """The package's own function.

    Raises:
        ValueError: the package is missing, or it is the one whose draws can't be repeated.
    """
    try:
        import imagecorruptions.corruptions as library
    except ImportError as error:
        raise ValueError(f'common_{name} needs the package imagecorruptions-imaug: {INSTALL}') from error
    if 'seed' not in inspect.signature(library.glass_blur).parameters:
        raise ValueError(f'common_{name} needs the fork imagecorruptions-imaug instead of imagecorruptions: {INSTALL}')
    return getattr(library, name)
