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

    The step starts at two radii. At checkpoints, ever closer together, an image whose loss rose in too few of the steps
    since the last one, or whose best loss did not change, goes on from its best point with half the step. With several
    stages, each but the last searches a larger ball, and the next one starts from its best points, projected (the
    radius schedule of SEA, ECCV 2024).

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
        start, done, worst = None, 0, Worst(images, loss_fn)
        for place, (share, radius) in enumerate(stages):
            last = place == len(stages) - 1
            count = steps - done if last else max(round(share * steps), 1)
            done += count
            larger = [budget._replace(eps=radius * budget.eps) for budget in budgets]
            ball = make_ball(norm, images, larger, bounds)
            start = ball.random_points(rng) if start is None else ball.project([point.clone() for point in start])
            start = _climb(loss_fn, ball, start, count, worst if last else None)
        return worst.images, worst.losses

    return worst_of_restarts(climb, images, restarts, restarts_at_once, rng)


def _climb(loss_fn: LossFunction, ball, points: list[Tensor], steps: int, worst: Worst | None) -> list[Tensor]:
    """One run within one ball; returns the points of highest loss."""
    losses, gradients = ascent(loss_fn, points, 0.0)
    if worst:
        worst.update(points, losses)
    before, previous = points, losses.loss
    best, best_loss, best_gradients = points, losses.loss, gradients
    radii = torch.full_like(best_loss, 2.0)
    rises = torch.zeros_like(best_loss)
    loss_at_checkpoint, halved = best_loss, torch.zeros_like(best_loss, dtype=torch.bool)
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
        if worst:
            worst.update(points, losses)
        rises += losses.loss > previous
        previous = losses.loss
        better = losses.loss > best_loss
        best = _choose(better, points, best)
        best_loss = torch.where(better, losses.loss, best_loss)
        if step == steps:
            break
        best_gradients = _choose(better, gradients, best_gradients)
        since += 1
        if since == interval:
            stuck = ~halved & (loss_at_checkpoint >= best_loss)
            halved = (rises < LEAST_SUCCESS * since) | stuck
            radii = torch.where(halved, radii / 2, radii)
            points, gradients = _choose(halved, best, points), _choose(halved, best_gradients, gradients)
            loss_at_checkpoint = best_loss
            rises = torch.zeros_like(rises)
            interval, since = max(interval - shrink, least), 0
    return best


def _choose(condition: Tensor, yes: Sequence[Tensor], no: Sequence[Tensor]) -> list[Tensor]:
    """Per image, without leaving the device."""
    return [torch.where(c, a, b) for c, a, b in zip(condition, yes, no, strict=True)]
