"""ALMA prox (Rony et al., CVPR 2023): the least norm by an augmented Lagrangian and proximal splitting, torch only."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .minimum_norm import MarginFunction, Search, asked, minimum_norm
from .proximity import prox_l2, prox_linf

FIRST, LAST = 0.3, 3e-3  # lengths of the first and the last steps, as shares of the norm so far
LEAST = 0.5  # of a change in levels of 255: steps are never shares of less
#: Force of the penalty against that of the norm: at the start, and its growth by a step until enough pixels are wrong;
#: from then on within these bounds, changed by PACE a step.
START, GROWTH, PACE = 3.0, 1.03, 1.1
FORCES = (0.5, 2.5)
INERTIA = 0.9  # alpha: weight of a multiplier against its new value
MULTIPLIERS = (1e-6, 1.0)
DECAY = 0.9  # beta: of the mean of squared gradients, from which the metric follows
STUCK, OFTEN, LARGEST = 0.95, 10, 1e3  # rho doubles, looked at so often, where a violation keeps so much; its limit


def alma_prox(
    margins_fn: MarginFunction,
    images: Sequence[Tensor],
    share: float,
    steps: int = 500,
    norm: str = 'linf',
    channels: slice = slice(None),
    bounds: tuple[float, float] = (0.0, 255.0),
) -> tuple[list[Tensor], Tensor]:
    """For each image the perturbation of least norm found that makes at least a share of its pixels wrong.

    ALMA prox (Rony et al., CVPR 2023): min ||delta|| subject to d_i(x + delta) <= 0 for a share of the pixels i, by an
    augmented Lagrangian. Each step descends along the gradient of the penalties P(d_i, rho_i, mu_i), and then takes the
    proximity operator of the norm and the box, in L-inf in the diagonal metric of the squared gradients' running mean.
    Multipliers mu_i follow P' with inertia; rho_i grows where a violated constraint does not get on; the hardest pixels
    are masked out, none in the first step and as many as ``share`` allows in the last one. The penalties' force is
    scaled up while too few pixels are wrong and down else. The result is shortened by a line search.

    Derived from the paper, not from its code. Ours differ in two ways: the gradient of the penalties is normalised, so
    that the scaled force alone, and no unit of logits or images, decides between penalty and norm; and the lengths of
    the steps are shares of the norm so far.

    Args:
        margins_fn: see :data:`MarginFunction`. Its images must not influence each other.
        images: N tensors (C, H_i, W_i), float, within ``bounds``.
        share: of the labelled pixels that must be wrong, in (0, 1].
        steps: one forward and one backward pass each.
        norm: ``'linf'`` or ``'l2'``.
        channels: what may be changed; the others stay as they are, bit for bit.
        bounds: the box of valid values.

    Returns:
        The images found, and the norms (N,) of their perturbations in units of ``images``; where none was found, the
        image with most wrong pixels, and infinity.
    """
    searches = [_Search(image[channels], share, norm, bounds) for image in images]
    return minimum_norm(searches, margins_fn, images, steps, channels)


class _Search(Search):
    def __init__(self, image: Tensor, share: float, norm: str, bounds: tuple[float, float]):
        super().__init__(image, share, norm, bounds)
        self.values = 1 if norm == 'linf' else math.sqrt(image.numel())  # the norm of a change by 1 everywhere
        self.least = LEAST * (bounds[1] - bounds[0]) / 255 * self.values
        self.force = image.new_tensor(START)
        self.squares, self.steps = torch.zeros_like(image), 0
        self.first = image.new_tensor(0.0)
        self.multipliers: Tensor | None = None

    def weights(self, margins: Tensor, reached: Tensor, progress: float) -> Tensor:
        """P' (P,) of each pixel's constraint, 0 of masked ones."""
        if self.multipliers is None:
            finite = torch.where(margins.isfinite(), margins, 0)
            self.unit = finite.abs().mean().clamp_min(torch.finfo(margins.dtype).tiny)
        margins = margins / self.unit
        force = torch.where(reached, self.force / PACE, self.force * PACE).clamp(*FORCES)
        self.force = torch.where(self.best_norm.isinf(), self.force * GROWTH, force)
        if self.multipliers is None:
            self.multipliers, self.rho = torch.ones_like(margins), torch.ones_like(margins)
            self.checked = margins
        if self.steps % OFTEN == OFTEN - 1:
            stuck = (margins > 0) & (margins > STUCK * self.checked)
            self.rho = torch.where(stuck, 2 * self.rho, self.rho).clamp_max(LARGEST)
            self.checked = margins
        slope = _penalty_slope(margins, self.rho, self.multipliers)
        self.multipliers = (INERTIA * self.multipliers + (1 - INERTIA) * slope).clamp(*MULTIPLIERS)
        slope = _penalty_slope(margins, self.rho, self.multipliers)
        return slope * asked(margins, 1 - progress * (1 - self.share))

    def move(self, gradient: Tensor, progress: float) -> None:
        """A forward step along the penalties' gradient and a backward one of the norm."""
        self.steps += 1
        self.first = torch.where(self.best_norm.isinf(), progress, self.first)  # steps get shorter from then on
        length = FIRST * (LAST / FIRST) ** ((progress - self.first) / (1 - self.first))
        tiny = torch.finfo(gradient.dtype).tiny
        gradient = self.force * gradient / self.dual_size(gradient)
        self.squares = DECAY * self.squares + (1 - DECAY) * gradient.square()
        metric = (self.squares / (1 - DECAY**self.steps)).sqrt()
        metric = metric + 1e-3 * metric.mean() + tiny
        length = length * self.size(self.delta).clamp_min(self.least) / self.values
        prox = prox_linf if self.norm == 'linf' else prox_l2
        self.delta = prox(self.delta - length * gradient / metric, self.low, self.high, metric, length)


def _penalty_slope(d: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """P'(d) of P = mu d + mu rho d^2 + rho^2 d^3 / 6 where d >= 0, mu d / (1 - rho d) where d < 0 (Birgin et al. 2005).

    Both branches have the value 0, the slope mu and the curvature 2 mu rho at 0.
    """
    violated = d.clamp_min(0)
    return torch.where(d >= 0, mu + 2 * mu * rho * violated + (rho * violated) ** 2 / 2, mu / (1 - rho * d) ** 2)
