"""What makes attacks transfer from one model to another: pure functions of torch."""

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SIZE = 0.75  # of a resampled image, as a share of its own


def diversify(loss_fn, probability: float, rng=None):
    """A loss function that sees each image, with a probability, resampled: smaller and back to its own size.

    Input diversity (Xie et al., CVPR 2019) shows a smaller image at a random place of a padded one. That would
    move pixels and boxes away from their labels; resampling blurs as it does and keeps everything in its place.

    Args:
        loss_fn: see :data:`~.functional.LossFunction`.
        probability: in (0, 1], for each image by itself.
        rng: see :data:`~.functional.Generators`.
    """

    def seen(images: list[Tensor], progress: float):
        draws = [torch.rand(2, generator=g, device=g and g.device).tolist() for g in rng or [None] * len(images)]
        images = [
            _resampled(image, LEAST_SIZE + (1 - LEAST_SIZE) * size) if chance < probability else image
            for image, (chance, size) in zip(images, draws, strict=True)
        ]
        return loss_fn(images, progress)

    seen.blinded = getattr(loss_fn, 'blinded', None)
    seen.eot_samples = getattr(loss_fn, 'eot_samples', 1)
    return seen


def _resampled(image: Tensor, share: float) -> Tensor:
    size = image.shape[-2:]
    smaller = [max(round(side * share), 1) for side in size]
    small = F.interpolate(image[None], smaller, mode='bilinear', antialias=True, align_corners=False)
    return F.interpolate(small, size, mode='bilinear', align_corners=False)[0]


def smooth_gradient(gradient: Tensor, side: int) -> Tensor:
    """A gradient (C, H, W) averaged over shifts by a Gaussian: translation invariance (Dong et al., CVPR 2019).

    Args:
        gradient: of one image.
        side: of the Gaussian's window, odd; its standard deviation is a sixth of it.
    """
    reach = side // 2
    offsets = torch.arange(-reach, reach + 1, device=gradient.device, dtype=gradient.dtype)
    kernel = torch.exp(-0.5 * (offsets / (side / 6)) ** 2)
    kernel = kernel / kernel.sum()
    rows = F.conv2d(gradient[:, None], kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(reach, 0))[:, 0]
