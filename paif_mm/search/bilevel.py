"""Architecture gradients of the bilevel problem min_alpha L_val(theta*(alpha), alpha), theta* = argmin L_tr.

Pure functions of torch alone, with one signature:

    method(train_loss, val_loss, weights, alphas, *, gradients, ...) -> list of tensors, shaped like ``alphas``

* ``train_loss``, ``val_loss``: called without arguments, return the scalar loss at the current values of ``weights``
  (theta) and ``alphas``. Random layers must draw the same numbers in every call of one step.
* ``gradients(loss, tensors)``: d loss / d tensors; :func:`gradients` on one process. Several processes pass one that
  averages over them, and the result is then that of one process with all their data.
* Neither ``weights`` nor ``alphas`` nor any ``.grad`` is changed.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[], Tensor]


def gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """d loss / d tensors; zeros for a tensor on which the loss does not depend."""
    return list(torch.autograd.grad(loss, tensors, materialize_grads=True))


def first_order(train_loss: Loss, val_loss: Loss, weights, alphas, *, gradients=gradients) -> list[Tensor]:
    """d L_val / d alpha at the current weights, as if these did not depend on alpha (first-order DARTS).

    ``train_loss`` is not called. Source: Liu et al. 2019 (DARTS), Sec. 2.3 with xi = 0.
    """
    return gradients(val_loss(), alphas)


def one_step(
    train_loss: Loss, val_loss: Loss, weights, alphas, *, gradients=gradients, unroll_step: float, radius: float = 0.01
) -> list[Tensor]:
    """Gradient through one unrolled step of gradient descent (second-order DARTS).

    With theta' = theta - xi d L_tr / d theta:

        d L_val(theta', alpha) / d alpha - xi (d^2 L_tr / d alpha d theta) d L_val(theta', alpha) / d theta'

    The mixed second derivative times a vector v is a central difference of d L_tr / d alpha over theta +- h v with
    h = radius / |v|. Four forward and backward passes. Source: Liu et al. 2019 (DARTS), Eq. 7 and 8.

    Args:
        unroll_step: xi, the length of the unrolled step.
        radius: length of the finite difference, DARTS's .01.
    """
    saved = [weight.detach().clone() for weight in weights]
    try:
        _shift(weights, saved, gradients(train_loss(), weights), -unroll_step)
        direction, direct = _split(gradients(val_loss(), [*weights, *alphas]), len(weights))
        norm = _dot(direction, direction).sqrt()
        h = torch.where(norm > 0, radius / norm, 0)
        _shift(weights, saved, direction, h)
        above = gradients(train_loss(), alphas)
        _shift(weights, saved, direction, -h)
        below = gradients(train_loss(), alphas)
    finally:
        _restore(weights, saved)
    factor = torch.where(norm > 0, unroll_step / (2 * h), 0)
    return [d - factor * (a - b) for d, a, b in zip(direct, above, below, strict=True)]


def best_response(train_loss: Loss, val_loss: Loss, weights, alphas, *, gradients=gradients) -> list[Tensor]:
    """Implicit gradient with the Hessian of L_tr replaced by the outer product of its gradient: the paper's choice.

    With g = d L_tr / d theta and G = d L_val / d theta:

        d L_val / d alpha - (<G, g> / <g, g>) d L_tr / d alpha

    Two forward and backward passes. Where g = 0, its outer product says nothing, and d L_val / d alpha is returned.
    Exact for L_tr = (a theta - b alpha)^2 / 2. Source: PAIF's reference [17], R. Liu et al. 2022, 'Revisiting GANs by
    Best-Response Constraint'.
    """
    g, train = _split(gradients(train_loss(), [*weights, *alphas]), len(weights))
    big_g, val = _split(gradients(val_loss(), [*weights, *alphas]), len(weights))
    squared = _dot(g, g)
    response = torch.where(squared > 0, _dot(big_g, g) / squared, 0)
    return [v - response * t for v, t in zip(val, train, strict=True)]


METHODS = {'first_order': first_order, 'one_step': one_step, 'best_response': best_response}


def _split(tensors: list[Tensor], count: int) -> tuple[list[Tensor], list[Tensor]]:
    return tensors[:count], tensors[count:]


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))


@torch.no_grad()
def _shift(weights, start: Sequence[Tensor], direction: Sequence[Tensor], factor) -> None:
    """Set weights to ``start + factor * direction``."""
    for weight, origin, step in zip(weights, start, direction, strict=True):
        weight.copy_(origin + factor * step)


@torch.no_grad()
def _restore(weights, saved: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, saved, strict=True):
        weight.copy_(value)
