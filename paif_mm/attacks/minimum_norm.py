"""The smallest perturbation that makes a share of an image's pixels wrong: ALMA prox, torch only.

A fixed radius says what is left inside of it; the least norm says where each image falls.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Maps a list of N images (C, H_i, W_i) to the margins of their labelled pixels, N tensors (P_i,): above 0 where a
#: pixel is right, its own logit minus the best other one, in whatever positive unit. No number: a wrong pixel.
MarginFunction = Callable[[list[Tensor]], list[Tensor]]

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
HALVINGS = 12  # of the last line search
ROOT_STEPS = 20  # of the L2 norm's proximity operator


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
    for step in range(steps):
        points = [
            _placed(image, channels, search.point).requires_grad_()
            for image, search in zip(images, searches, strict=True)
        ]
        margins = _numbers(margins_fn(points))
        weights = [search.weights(d.detach(), step / steps) for d, search in _both(margins, searches)]
        total = sum((weight * d).sum() for weight, d in _both(weights, margins))
        gradients = [torch.zeros_like(point) for point in points]
        if total.requires_grad:  # else the model cut its images off, or nothing is labelled
            gradients = torch.autograd.grad(total, points, allow_unused=True, materialize_grads=True)
        for gradient, search in _both(gradients, searches):
            search.move(torch.nan_to_num(gradient[channels], nan=0.0, posinf=0.0, neginf=0.0), step / steps)
    with torch.no_grad():
        _shorten(margins_fn, images, searches, channels)
    return [
        _placed(image, channels, search.placed(search.best)) for image, search in _both(images, searches)
    ], torch.stack([search.best_norm for search in searches])


class _Search:
    """One image's perturbation, multipliers, and the best of what was seen; all on the image's device."""

    def __init__(self, image: Tensor, share: float, norm: str, bounds: tuple[float, float]):
        self.image, self.share, self.norm, self.bounds = image, share, norm, bounds
        self.low, self.high = bounds[0] - image, bounds[1] - image
        self.delta = torch.zeros_like(image)
        self.best, self.best_wrong = self.delta, image.new_tensor(-1.0)
        self.best_norm = image.new_tensor(torch.inf)
        self.values = 1 if norm == 'linf' else math.sqrt(image.numel())  # the norm of a change by 1 everywhere
        self.least = LEAST * (bounds[1] - bounds[0]) / 255 * self.values
        self.force = image.new_tensor(START)
        self.squares, self.steps = torch.zeros_like(image), 0
        self.first = image.new_tensor(0.0)
        self.multipliers: Tensor | None = None

    @property
    def point(self) -> Tensor:
        return self.placed(self.delta)

    def placed(self, delta: Tensor) -> Tensor:
        return (self.image + delta).clamp(*self.bounds)  # rounding may leave the box by a hair

    def see(self, delta: Tensor, margins: Tensor) -> Tensor:
        """Keep a perturbation if it is the best so far; whether it makes enough pixels wrong, () bool."""
        wrong = (margins < 0).float().mean() if margins.numel() else margins.new_tensor(1.0)
        reached, size = wrong >= self.share, self.size(delta)
        better = torch.where(reached, size < self.best_norm, (wrong > self.best_wrong) & self.best_norm.isinf())
        self.best = torch.where(better, delta, self.best)
        self.best_wrong = torch.where(better, wrong, self.best_wrong)
        self.best_norm = torch.where(better & reached, size, self.best_norm)
        return reached

    def size(self, delta: Tensor) -> Tensor:
        return delta.abs().amax() if self.norm == 'linf' else delta.norm()

    def weights(self, margins: Tensor, progress: float) -> Tensor:
        """P' (P,) of each pixel's constraint, 0 of masked ones; learns from the margins where the search stands."""
        reached = self.see(self.delta, margins)
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
        if not margins.numel():
            return slope
        kept = math.ceil((1 - progress * (1 - self.share)) * margins.numel())
        return slope * (margins <= margins.kthvalue(kept).values)

    def move(self, gradient: Tensor, progress: float) -> None:
        """A forward step along the penalties' gradient and a backward one of the norm."""
        self.steps += 1
        self.first = torch.where(self.best_norm.isinf(), progress, self.first)  # steps get shorter from then on
        length = FIRST * (LAST / FIRST) ** ((progress - self.first) / (1 - self.first))
        tiny = torch.finfo(gradient.dtype).tiny
        dual = gradient.abs().sum() if self.norm == 'linf' else gradient.norm()
        gradient = self.force * gradient / dual.clamp_min(tiny)
        self.squares = DECAY * self.squares + (1 - DECAY) * gradient.square()
        metric = (self.squares / (1 - DECAY**self.steps)).sqrt()
        metric = metric + 1e-3 * metric.mean() + tiny
        length = length * self.size(self.delta).clamp_min(self.least) / self.values
        prox = prox_linf if self.norm == 'linf' else prox_l2
        self.delta = prox(self.delta - length * gradient / metric, self.low, self.high, metric, length)


def prox_linf(point: Tensor, low: Tensor, high: Tensor, metric: Tensor, length: Tensor | float) -> Tensor:
    """argmin of length max |delta| + sum_i metric_i (delta_i - point_i)^2 / 2 over low <= delta <= high.

    The box contains 0, so that the answer cuts the point at the box and at a level t, |delta| <= t. With r_i what the
    box leaves of |point_i|, the derivative towards t is length - sum over r_i > t of metric_i (|point_i| - t), which
    rises with t; between two neighbours of the sorted r_i it is linear, so that its zero is found exactly.
    """
    reach, order = point.clamp(low, high).abs().flatten().sort(descending=True)
    reach, weight = reach.double(), metric.flatten()[order].double()
    pull = (weight * point.flatten()[order].abs()).cumsum(0)  # of the first k values, were they cut to 0
    weight = weight.cumsum(0)
    below = torch.cat([reach[1:], reach.new_zeros(1)])
    length = torch.as_tensor(length, dtype=pull.dtype, device=pull.device)
    place = torch.searchsorted(pull - below * weight, length).clamp_max(len(pull) - 1)
    level = ((pull[place] - length) / weight[place]).clamp(below[place], reach[place])
    level = torch.where(pull[-1] > length, level, 0).to(point.dtype)
    return point.clamp(low, high).clamp(-level, level)


def prox_l2(point: Tensor, low: Tensor, high: Tensor, metric: Tensor, length: Tensor | float) -> Tensor:
    """argmin of length ||delta||_2 + sum_i metric_i (delta_i - point_i)^2 / 2 over low <= delta <= high.

    The box contains 0. Where ||delta|| = r, delta_i = clamp(metric_i point_i r / (metric_i r + length)). The norm of
    that over r, g(r), falls with r, and r is where it is 1: 0 if g(0) <= 1, where the slopes metric_i point_i that the
    box leaves are no longer than length. 1 / g is nearly linear, and exactly so for an even metric and no box: Newton's
    steps on it find r, and halvings of what encloses r where they leave that.
    """
    pull = metric * point
    short, long = point.new_zeros(()), point.clamp(low, high).norm()  # what encloses r
    radius = long
    for _ in range(ROOT_STEPS):
        damped = metric * radius + length
        share = pull / damped
        cut = torch.maximum(torch.minimum(share, high / radius), low / radius)  # delta / r
        ratio = cut.norm()
        short, long = torch.where(ratio >= 1, radius, short), torch.where(ratio >= 1, long, radius)
        fall = (cut.square() * torch.where(cut == share, metric / damped, 1 / radius)).sum() / ratio
        ahead = radius + (ratio - 1) * ratio / fall
        radius = torch.where((ahead >= short) & (ahead <= long), ahead, (short + long) / 2)
    free = torch.where(pull > 0, high > 0, low < 0)
    found = (pull * radius / (metric * radius + length)).clamp(low, high)
    return torch.where((pull * free).norm() > length, found, 0)


def _penalty_slope(d: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """P'(d) of P = mu d + mu rho d^2 + rho^2 d^3 / 6 where d >= 0, mu d / (1 - rho d) where d < 0 (Birgin et al. 2005).

    Both branches have the value 0, the slope mu and the curvature 2 mu rho at 0.
    """
    violated = d.clamp_min(0)
    return torch.where(d >= 0, mu + 2 * mu * rho * violated + (rho * violated) ** 2 / 2, mu / (1 - rho * d) ** 2)


def _shorten(margins_fn: MarginFunction, images, searches: list[_Search], channels: slice) -> None:
    """Halve, along each perturbation found, the way between what is too short and what is enough."""
    found = [search.best for search in searches]
    enough = [search.image.new_tensor(1.0) for search in searches]
    short = [search.image.new_tensor(0.0) for search in searches]
    for _ in range(HALVINGS):
        shares = [(a + b) / 2 for a, b in _both(enough, short)]
        deltas = [share * delta for share, delta in _both(shares, found)]
        points = [_placed(image, channels, s.placed(d)) for image, s, d in zip(images, searches, deltas, strict=True)]
        for i, margins in enumerate(_numbers(margins_fn(points))):
            reached = searches[i].see(deltas[i], margins)
            enough[i] = torch.where(reached, shares[i], enough[i])
            short[i] = torch.where(reached, short[i], shares[i])


def _numbers(margins: list[Tensor]) -> list[Tensor]:
    """Margins in which those that are no numbers are those of wrong pixels, just so."""
    return [torch.nan_to_num(d, nan=-torch.finfo(d.dtype).tiny, posinf=torch.inf, neginf=-torch.inf) for d in margins]


def _placed(image: Tensor, channels: slice, part: Tensor) -> Tensor:
    """A copy of an image (C, H, W) with other values in some channels."""
    image = image.detach().clone()
    image[channels] = part
    return image


def _both(a: Sequence, b: Sequence):
    return zip(a, b, strict=True)
