"""PDPGD (Matyasko and Chau, 2021): the least norm as a game of two players, torch only."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .minimum_norm import MarginFunction, Search, asked, minimum_norm
from .proximity import prox_l2, prox_linf

PRIMAL = (0.1, 1e-3)  # lengths of the first and the last primal steps, as shares of the box
DUAL = (0.1, 0.01)  # of the dual steps, in logarithms of multipliers
AVERAGED = 0.9  # of the multipliers' running mean, which the primal player sees
DECAY = 0.9  # of the mean of squared gradients


def pdpgd(
    margins_fn: MarginFunction,
    images: Sequence[Tensor],
    share: float,
    steps: int = 500,
    norm: str = 'linf',
    channels: slice = slice(None),
    bounds: tuple[float, float] = (0.0, 255.0),
) -> tuple[list[Tensor], Tensor]:
    """The least norm by primal-dual proximal gradient descent.

    Of the Lagrangian ||delta|| + sum_i lambda_i d_i(x + delta), one player lowers the first argument and the other one
    raises the second: at once, and each by a loss of its own. The primal player descends along the margins, with steps
    in the metric of their squared gradients' mean, and takes the proximity operator of the norm and the box. The dual
    one sees only which constraints are violated, and multiplies their lambda_i, or divides it (ascent in logarithms);
    the primal one sees its running mean. Steps of both get shorter from first to last, by equal factors.

    The paper attacks classifiers, with a single constraint. Here each pixel has its own, and the hardest ones that
    ``share`` leaves out are masked out. Multipliers start where the margins pull as much as the norm, in place of a
    given number, so that no unit of logits or images counts. The result is shortened by a line search, as those of the
    attacks beside it. Derived from what the paper tells, not from its code.

    Args:
        margins_fn, images, share, steps, norm, channels, bounds: see :func:`~.alma_prox.alma_prox`.

    Returns:
        As :func:`~.minimum_norm.minimum_norm`.
    """
    searches = [_Search(image[channels], share, norm, bounds) for image in images]
    return minimum_norm(searches, margins_fn, images, steps, channels)


class _Search(Search):
    def __init__(self, image: Tensor, share: float, norm: str, bounds: tuple[float, float]):
        super().__init__(image, share, norm, bounds)
        self.squares, self.steps = torch.zeros_like(image), 0
        self.logarithms: Tensor | None = None  # of the multipliers
        self.unit = image.new_tensor(0.0)

    def weights(self, margins: Tensor, reached: Tensor, progress: float) -> Tensor:
        """The running mean of the multipliers (P,), 0 of masked ones."""
        constrained = asked(margins, self.share)
        if self.logarithms is None:
            self.logarithms, self.mean = torch.zeros_like(margins), torch.ones_like(margins)
        violated = torch.where(margins >= 0, 1.0, -1.0)
        self.logarithms = self.logarithms + torch.where(constrained, _length(DUAL, progress) * violated, 0)
        self.mean = AVERAGED * self.mean + (1 - AVERAGED) * self.logarithms.exp()
        return self.mean * constrained

    def move(self, gradient: Tensor, progress: float) -> None:
        self.steps += 1
        self.unit = torch.where(self.unit > 0, self.unit, self.dual_size(gradient))
        gradient = gradient / self.unit
        self.squares = DECAY * self.squares + (1 - DECAY) * gradient.square()
        metric = (self.squares / (1 - DECAY**self.steps)).sqrt()
        metric = metric + 1e-3 * metric.mean() + torch.finfo(gradient.dtype).tiny
        length = _length(PRIMAL, progress) * (self.bounds[1] - self.bounds[0])
        prox = prox_linf if self.norm == 'linf' else prox_l2
        self.delta = prox(self.delta - length * gradient / metric, self.low, self.high, metric, length)


def _length(ends: tuple[float, float], progress: float) -> float:
    first, last = ends
    return first * (last / first) ** progress
