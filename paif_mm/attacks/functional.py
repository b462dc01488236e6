"""Projected gradient attacks on lists of images: one function, one loop, torch only."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Maps images to their losses: list of N tensors (C, H_i, W_i) -> (N,), larger is worse for the model.
LossFunction = Callable[[list[Tensor]], Tensor]


class Budget(NamedTuple):
    """What an attack may do to some channels: a ball of radius ``eps`` around them, in the images' own units."""

    channels: slice
    eps: float
    step_size: float


def projected_gradient(
    loss_fn: LossFunction,
    images: Sequence[Tensor],
    budgets: Sequence[Budget],
    steps: int,
    norm: str = 'linf',
    random_start: bool = True,
    restarts: int = 1,
    keep: str = 'worst',
    bounds: tuple[float, float] = (0.0, 255.0),
) -> tuple[list[Tensor], Tensor | None]:
    """Maximise each image's loss within a ball around it by projected gradient ascent (Madry et al. 2018).

    One step and no random start is FGSM; several steps and no random start is BIM. Images may differ in size.

    Args:
        loss_fn: per-image losses (N,) of N images. Its images must not influence each other.
        images: N tensors (C, H_i, W_i), float, within ``bounds``.
        budgets: disjoint channel groups with a radius and step each, in units of ``images``. Channels without a
            budget, or with radius 0, stay as they are, bit for bit.
        steps: number of gradient steps, one forward and one backward pass each.
        norm: ``'linf'`` (sign steps, radius per pixel) or ``'l2'`` (normalised steps, radius of the group's norm).
        random_start: start at a uniformly random point of the ball instead of its centre.
        restarts: number of tries; the worst result of each image is kept.
        keep: ``'worst'`` returns the iterate of highest loss per image and costs one forward pass more than
            ``'last'``, which returns the last one.
        bounds: the box of valid values, known, never read off the data.

    Returns:
        The attacked images, and their losses (N,), or None where no choice needed them
        (``keep='last'`` and one restart).
    """
    check_settings(norm, keep)
    ball = (LinfBall if norm == 'linf' else L2Ball)(images, budgets, bounds)
    worst = _Worst(images)
    for _ in range(restarts):
        points = ball.random_points() if random_start else [image.clone() for image in images]
        for _ in range(steps):
            points = [point.detach().requires_grad_() for point in points]
            losses = loss_fn(points)
            gradients = torch.autograd.grad(losses.sum(), points)
            if keep == 'worst':
                worst.update(points, losses)
            points = ball.ascend(points, gradients)
        if keep == 'last' and restarts == 1:
            return points, None
        with torch.no_grad():
            worst.update(points, loss_fn(points))
    return worst.images, worst.losses


def check_settings(norm: str, keep: str) -> None:
    """Refuse unknown words for the two settings of :func:`projected_gradient` that are words."""
    if norm not in ('linf', 'l2'):
        raise ValueError(f"norm must be 'linf' or 'l2', not {norm!r}")
    if keep not in ('worst', 'last'):
        raise ValueError(f"keep must be 'worst' or 'last', not {keep!r}")


class LinfBall:
    """max |x - x0| <= eps in each channel group, intersected with the box, met exactly in floating point."""

    def __init__(self, images: Sequence[Tensor], budgets: Sequence[Budget], bounds: tuple[float, float]):
        self.images = images
        self.eps = [_per_channel(image, budgets, 'eps') for image in images]
        self.step = [_per_channel(image, budgets, 'step_size') for image in images]
        self.low, self.high = [], []
        for image, eps in zip(images, self.eps, strict=True):
            low, high = image - eps, image + eps
            # Rounding may put x0 +- eps a hair outside the ball: take the neighbouring float then.
            low = torch.where(image - low > eps, torch.nextafter(low, image), low)
            high = torch.where(high - image > eps, torch.nextafter(high, image), high)
            self.low.append(low.clamp_min(bounds[0]))
            self.high.append(high.clamp_max(bounds[1]))

    def random_points(self) -> list[Tensor]:
        noise = [torch.empty_like(image).uniform_(-1, 1) for image in self.images]
        return self._project([image + n * eps for image, n, eps in zip(self.images, noise, self.eps, strict=True)])

    @torch.no_grad()
    def ascend(self, points: list[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        moved = [p + g.sign_().mul_(s) for p, g, s in zip(points, gradients, self.step, strict=True)]
        return self._project(moved)

    def _project(self, points: list[Tensor]) -> list[Tensor]:
        return [torch.clamp(p, low, high) for p, low, high in zip(points, self.low, self.high, strict=True)]


class L2Ball:
    """||x - x0||_2 <= eps of each channel group, intersected with the box (which only shrinks the norm)."""

    def __init__(self, images: Sequence[Tensor], budgets: Sequence[Budget], bounds: tuple[float, float]):
        self.images, self.bounds = images, bounds
        self.budgets = [budget for budget in budgets if budget.eps > 0]

    def random_points(self) -> list[Tensor]:
        points = [image.clone() for image in self.images]
        for point in points:
            for channels, eps, _ in self.budgets:
                direction = torch.randn_like(point[channels])
                radius = eps * torch.rand((), device=point.device)
                point[channels] += direction * (radius / direction.norm())
        return self._project(points)

    @torch.no_grad()
    def ascend(self, points: list[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
        moved = [point.detach().clone() for point in points]
        for point, gradient in zip(moved, gradients, strict=True):
            for channels, _, step in self.budgets:
                norm = gradient[channels].norm().clamp_min(torch.finfo(gradient.dtype).tiny)
                point[channels] += gradient[channels] * (step / norm)
        return self._project(moved)

    def _project(self, points: list[Tensor]) -> list[Tensor]:
        for point, image in zip(points, self.images, strict=True):
            for channels, eps, _ in self.budgets:
                delta = point[channels] - image[channels]
                shrink = (eps / delta.norm().clamp_min(eps)).clamp_max(1)  # 1 inside the ball
                point[channels] = (image[channels] + delta * shrink).clamp(*self.bounds)
        return points


class _Worst:
    """The image of highest loss seen so far, for each place of the batch."""

    def __init__(self, images: Sequence[Tensor]):
        self.images = [image.clone() for image in images]
        self.losses = None

    def update(self, points: Sequence[Tensor], losses: Tensor) -> None:
        losses = losses.detach()
        if self.losses is None:
            self.images, self.losses = [point.detach() for point in points], losses
            return
        better = losses > self.losses
        self.losses = torch.where(better, losses, self.losses)
        # torch.where keeps the choice on the device: no synchronisation per step.
        self.images = [
            torch.where(b, point.detach(), image) for b, point, image in zip(better, points, self.images, strict=True)
        ]


def _per_channel(image: Tensor, budgets: Sequence[Budget], field: str) -> Tensor:
    """A budget's field as (C, 1, 1); 0 for channels without a budget."""
    values = image.new_zeros(image.size(0), 1, 1)
    for budget in budgets:
        values[budget.channels] = getattr(budget, field)
    return values
