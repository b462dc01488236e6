"""Auto-PGD: projected gradient ascent that chooses its own step sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .functional import (
    Budget,
    Generators,
    Losses,
    LossFunction,
    Worst,
    ascent,
    check_settings,
    look,
    make_ball,
    worst_of_restarts,
)

INERTIA = 0.75  # alpha of the paper: weight of the new direction against the last one
LEAST_SUCCESS = 0.75  # rho: share of the steps between two checkpoints that must raise the loss


def auto_pgd(
    loss_fn: LossFunction,
    images: Sequence[Tensor],
    budgets: Sequence[Budget],
    steps: int,
    norm: str = 'linf',
    restarts: int = 1,
    stages: Sequence[tuple[float, float]] = ((1.0, 1.0),),
    restarts_at_once: int = 1,
    rng: Generators = None,
    bounds: tuple[float, float] = (0.0, 255.0),
) -> tuple[list[Tensor], Losses]:
    """Maximise each image's loss within a ball by APGD (Croce and Hein, ICML 2020, Algorithm 1).

    The step starts at two radii. At checkpoints, ever closer together, an image that got on in too few of the steps
    since the last one, or whose best point did not change, goes on from its best point with half the step. Too few are
    fewer than three quarters, as the paper writes; its published code and SEA's halve at exactly three quarters, too,
    which differs only after a multiple of four steps. Whether an image gets on is told by its loss, or by another one
    that steers, see :class:`~.functional.Losses`. With several stages, each but the last searches a larger ball, and
    the next one starts from its points of highest harm, projected. (Both as in SEA, Croce et al., ECCV 2024: steered by
    the mean cross-entropy, and from the least accurate points.)

    Args:
        loss_fn, images, budgets, norm, restarts_at_once, rng, bounds: see :func:`~.functional.projected_gradient`; step
            sizes are not used.
        steps: gradient steps of each restart, in all stages together.
        restarts: random starts; the result of highest harm of each image is kept.
        stages: (share of the steps, radius in radii of the budget); the last radius must be 1.

    Returns:
        The images of highest harm, and their losses.

    Raises:
        ValueError: the stages do not end at radius 1, or their shares do not add up to 1.
    """
    check_settings(norm, 'worst')
    if stages[-1][1] != 1 or abs(sum(share for share, _ in stages) - 1) > 1e-6:
        raise ValueError(f'stages must end at radius 1 and have shares that add up to 1, not {list(stages)}')

    def climb(images: list[Tensor], rng: Generators) -> tuple[list[Tensor], Losses]:
        start, done = None, 0
        for place, (share, radius) in enumerate(stages):
            last = place == len(stages) - 1
            count = steps - done if last else max(round(share * steps), 1)
            done += count
            larger = [budget._replace(eps=radius * budget.eps) for budget in budgets]
            ball = make_ball(norm, images, larger, bounds)
            start = ball.random_points(rng) if start is None else ball.project([point.clone() for point in start])
            worst = Worst(images, loss_fn if last else None)  # what lies outside of the ball settles nothing
            _climb(loss_fn, ball, start, count, worst)
            start = worst.images
        return worst.images, worst.losses

    return worst_of_restarts(climb, images, restarts, restarts_at_once, rng)


def _climb(loss_fn: LossFunction, ball, points: list[Tensor], steps: int, worst: Worst) -> None:
    """One run within one ball, whose points ``worst`` is shown; 'best' are those of the highest steering loss."""
    losses, gradients = ascent(loss_fn, points, 0.0)
    worst.update(points, losses)
    before, previous = points, losses.steer
    best, best_steer, best_gradients = points, losses.steer, gradients
    radii = torch.full_like(best_steer, 2.0)
    rises = torch.zeros_like(best_steer)
    steer_at_checkpoint, halved = best_steer, torch.zeros_like(best_steer, dtype=torch.bool)
    interval, shrink, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    since = 0
    for step in range(1, steps + 1):
        ahead = ball.ascend(points, gradients, radii)
        if step > 1:
            ahead = ball.project(
                [
                    x + INERTIA * (z - x) + (1 - INERTIA) * (x - old)
                    for x, z, old in zip(points, ahead, before, strict=True)
                ]
            )
        before, points = points, ahead
        if step < steps:
            losses, gradients = ascent(loss_fn, points, step / steps)
        else:
            losses = look(loss_fn, points)
        worst.update(points, losses)
        if step == steps:
            break
        rises += losses.steer > previous
        previous = losses.steer
        better = (losses.steer > best_steer) | (best_steer.isnan() & ~losses.steer.isnan())
        best = _choose(better, points, best)
        best_steer = torch.where(better, losses.steer, best_steer)
        best_gradients = _choose(better, gradients, best_gradients)
        since += 1
        if since == interval:
            stuck = ~halved & ~(steer_at_checkpoint < best_steer)
            halved = (rises < LEAST_SUCCESS * since) | stuck
            radii = torch.where(halved, radii / 2, radii)
            points, gradients = _choose(halved, best, points), _choose(halved, best_gradients, gradients)
            steer_at_checkpoint = best_steer
            rises = torch.zeros_like(rises)
            interval, since = max(interval - shrink, least), 0


def _choose(condition: Tensor, yes: Sequence[Tensor], no: Sequence[Tensor]) -> list[Tensor]:
    """Per image, without leaving the device."""
    return [torch.where(c, a, b) for c, a, b in zip(condition, yes, no, strict=True)]
