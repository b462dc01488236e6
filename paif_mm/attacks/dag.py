"""DAG (Xie et al., ICCV 2017): the first attack made for dense predictions, torch only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .minimum_norm import MarginFunction, Search, minimum_norm


def dag(
    margins_fn: MarginFunction,
    images: Sequence[Tensor],
    share: float,
    steps: int = 200,
    step_size: float = 0.5,
    channels: slice = slice(None),
    bounds: tuple[float, float] = (0.0, 255.0),
) -> tuple[list[Tensor], Tensor]:
    """Steps of one length along the gradient of the pixels that are still right, until enough are wrong.

    Dense adversary generation (Xie et al., ICCV 2017, Algorithm 1): r = sum over the targets that are still right of
    grad(f_{l'} - f_l), and x becomes x + gamma r / ||r||_inf. Lost pixels pull no more, so that nothing but the first
    crossing keeps the change small: no norm is minimised. The paper draws the wrong label l' of a target at random;
    here, as no class is wanted, it is the best wrong one of each step. The result is shortened by a line search, as
    those of the attacks beside it.

    Args:
        step_size: gamma, in units of ``images``. The paper's is .5 of 255 values.
        margins_fn, images, share, steps, channels, bounds: see :func:`~.alma_prox.alma_prox`. Margins are plain
            differences of logits, which decide how much each pixel pulls.

    Returns:
        As :func:`~.minimum_norm.minimum_norm`; norms are those of L-inf.
    """
    searches = [_Search(image[channels], share, step_size, bounds) for image in images]
    return minimum_norm(searches, margins_fn, images, steps, channels)


class _Search(Search):
    def __init__(self, image: Tensor, share: float, step_size: float, bounds: tuple[float, float]):
        super().__init__(image, share, 'linf', bounds)
        self.step_size = step_size

    def weights(self, margins: Tensor, reached: Tensor, progress: float) -> Tensor:
        return (margins >= 0).to(margins)

    def move(self, gradient: Tensor, progress: float) -> None:
        size = gradient.abs().amax().clamp_min(torch.finfo(gradient.dtype).tiny)
        self.delta = (self.delta - self.step_size * gradient / size).clamp(self.low, self.high)

    def is_done(self) -> bool:
        return bool(self.best_norm.isfinite())
