"""Square attack: random search that asks the model for losses and nothing else."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .functional import Budget, Generators, LinfBall, Losses, LossFunction, Worst, drawn_integers, look, per_image

#: After these shares of the queries the squares' area is halved (the paper's schedule for 10,000 queries).
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def square_attack(
    loss_fn: LossFunction,
    images: Sequence[Tensor],
    budgets: Sequence[Budget],
    queries: int,
    first_share: float = 0.8,
    rng: Generators = None,
    bounds: tuple[float, float] = (0.0, 255.0),
) -> tuple[list[Tensor], Losses]:
    """Maximise each image's loss within an L-inf ball without gradients (Andriushchenko et al., ECCV 2020).

    It starts at vertical stripes of +-eps. Each query then tries a square of +-eps, one sign per channel, at a random
    place, and keeps it where the harm rises (or stays, and the loss rises). The squares shrink over the queries.

    Args:
        loss_fn, images, budgets, rng, bounds: see :func:`~.functional.projected_gradient`; step sizes are not used.
            Called without gradients.
        queries: forward passes per image.
        first_share: share of the image that the first squares cover. Default: .8, the paper's.

    Returns:
        The images of highest harm, and their losses.
    """
    ball = LinfBall(images, budgets, bounds)
    worst = Worst(images, loss_fn)
    points = [
        image + eps * _signs(image, (1, image.size(2)), g)
        for (image, g), eps in zip(per_image(images, rng), ball.eps, strict=True)
    ]
    for query in range(queries):
        points = ball.project(points)
        worst.update(points, look(loss_fn, points))
        share = first_share / 2 ** sum(query > halving * queries for halving in HALVINGS)
        points = [
            _with_square(point, image, eps, share, g)
            for point, (image, g), eps in zip(worst.images, per_image(images, rng), ball.eps, strict=True)
        ]
    return worst.images, worst.losses


def _with_square(point: Tensor, image: Tensor, eps: Tensor, share: float, g: torch.Generator | None) -> Tensor:
    height, width = image.shape[1:]
    side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
    top, left = (int(drawn_integers(0, size - side + 1, (), g)) for size in (height, width))
    place = (slice(None), slice(top, top + side), slice(left, left + side))
    point = point.clone()
    point[place] = image[place] + eps * _signs(image, (1, 1), g)
    return point


def _signs(image: Tensor, size: tuple[int, int], g: torch.Generator | None) -> Tensor:
    """Random signs (C, *size)."""
    return (drawn_integers(0, 2, (image.size(0), *size), g) * 2 - 1).to(image)
