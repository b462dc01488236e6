"""The pretext defence initialisation of Adaptive Adversarial Training (PAIF, ACM MM 2023, Sec. 2.3, Alg. 2, lines 2-7).

Pure functions of torch alone. Weights are a dict name -> tensor, a loss is a function of such a dict, and nothing is
changed in place: :func:`functional_loss` makes such a loss of a network and a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

Weights = Mapping[str, Tensor]
Loss = Callable[[Weights], Tensor]


class Scene(NamedTuple):
    """One kind of attack.

    Attributes:
        train (Sequence[Loss]): losses of the inner steps, one step each (batches of D_tr^i).
        val (Loss): loss at the adapted weights (a batch of D_val^i).
    """

    train: Sequence[Loss]
    val: Loss


def adapt(weights: Weights, losses: Sequence[Loss], lr: float) -> list[dict[str, Tensor]]:
    """Alg. 2, line 4: theta^i <- theta - lr * d loss / d theta, once per loss.

    Returns:
        list: the weights before the first step, after it, ..., after the last; detached.
    """
    path = [{name: weight.detach() for name, weight in weights.items()}]
    for loss in losses:
        _, gradient = loss_and_gradient(loss, path[-1])
        path.append({name: weight - lr * gradient[name] for name, weight in path[-1].items()})
    return path


def meta_gradient(
    weights: Weights, scenes: Sequence[Scene], lr: float, second_order: bool = False
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Alg. 2, line 6: gradient of sum_i val_i(theta^i(theta)), where theta^i are the weights adapted to scene i.

    First order (default) takes d theta^i / d theta for the identity (FOMAML, Finn et al. 2017) and costs one forward
    and backward pass per inner step and scene, and one more per scene. Second order is exact: with the Hessian H_j of
    the j-th inner loss, the gradient v at the adapted weights is carried back by v <- v - lr H_j v. Each product costs
    a forward, a backward and a backward pass through both, so four to five times first order in all; memory is that
    of one inner step, however many there are (``benchmarks/meta_step.py``).

    Args:
        weights: theta.
        scenes: their inner and outer losses. They must give the same value when called again with the same weights.
        lr: of the inner steps.
        second_order: exact instead of first order.

    Returns:
        The gradient, name -> tensor, and each scene's loss at its adapted weights.
    """
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    losses = []
    for scene in scenes:
        path = adapt(weights, scene.train, lr)
        loss, gradient = loss_and_gradient(scene.val, path[-1])
        if second_order:
            for step_loss, before in zip(reversed(scene.train), reversed(path[:-1]), strict=True):
                product = hessian_product(step_loss, before, gradient)
                gradient = {name: value - lr * product[name] for name, value in gradient.items()}
        for name, value in gradient.items():
            total[name] += value
        losses.append(loss)
    return total, losses


def loss_and_gradient(loss: Loss, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, detached, and its gradient at ``weights``."""
    leaves = _leaves(weights)
    value = loss(leaves)
    gradients = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
    return value.detach(), dict(zip(leaves, gradients, strict=True))


def hessian_product(loss: Loss, weights: Weights, vector: Weights) -> dict[str, Tensor]:
    """(d^2 loss / d weights^2) vector, exactly, by differentiating <gradient, vector>."""
    leaves = _leaves(weights)
    gradients = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True, materialize_grads=True)
    inner = sum((gradient * vector[name]).sum() for name, gradient in zip(leaves, gradients, strict=True))
    if not inner.requires_grad:  # a loss that is linear in every weight
        return {name: torch.zeros_like(weight) for name, weight in leaves.items()}
    products = torch.autograd.grad(inner, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, products, strict=True))


def functional_loss(
    network: nn.Module,
    inputs: Sequence[Tensor],
    criterion: Callable[[Tensor], Tensor],
    track_statistics: bool = False,
) -> Loss:
    """``criterion(network(*inputs))`` as a function of the network's weights.

    Unless ``track_statistics``, the network's buffers (batch-norm statistics) are copied for every call, so that no
    call changes them.
    """

    def loss(weights: Weights) -> Tensor:
        buffers = {} if track_statistics else {name: buffer.clone() for name, buffer in network.named_buffers()}
        return criterion(functional_call(network, {**weights, **buffers}, tuple(inputs)))

    return loss


def _leaves(weights: Weights) -> dict[str, Tensor]:
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}
