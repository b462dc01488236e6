"""Gradients that stay the same within the ball: the regulariser of single-step training (GradAlign)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from paif_mm.perception import find_fuser
from paif_mm.perception.fuser import MARKS

from .attack import PGD
from .frozen import frozen
from .functional import Generators, complete, make_ball
from .objectives import Questions


class Aligned(NamedTuple):
    """What :class:`GradientAlignment` asks of one batch.

    ``loss_fn`` tells the losses of the ``clean`` images, and of ``noisy`` copies behind them; ``share`` is what their
    mean counts in the global batch: the number of processes times this one's part of all attacked images.
    """

    loss_fn: Questions
    clean: list[Tensor]
    noisy: list[Tensor]
    channels: list[slice]
    share: float


class GradientAlignment:
    """Adds weight * (1 - cos(grad_x l(x), grad_x l(x + u))) to a model's training losses, as ``loss_align``.

    GradAlign (Andriushchenko and Flammarion, NeurIPS 2020, Eq. 7), u uniform in the ball: where the gradient turns
    within the ball, a single step misses what it is to find, and training by it collapses. Gradients are those that the
    attack follows: of its objective, image by image, in evaluation mode and fp32. Clean and noisy images pass as one
    batch, and the gradients of the weights go through both input gradients.

    It runs behind the model's own forward pass, since the evaluation mode's passes must see the batch-norm statistics
    that the backward pass finds.

    Args:
        model (nn.Module): an OpenMMLab model, not wrapped.
        weight (float): lambda.
    """

    def __init__(self, model: nn.Module, weight: float):
        self._weight, self._asked = weight, None
        # before other hooks, which scale the model's losses, this one included
        self._handle = model.register_forward_hook(self._add_loss, with_kwargs=True, prepend=True)

    def remove(self) -> None:
        self._handle.remove()

    def ask(self, asked: Aligned | None) -> None:
        """Regularise the next training pass."""
        self._asked = asked

    def _add_loss(self, model, args, kwargs, losses):
        if self._asked is None or not model.training or kwargs.get('mode') != 'loss':
            return losses
        asked, self._asked = self._asked, None
        fuser = find_fuser(model)
        before = {name: getattr(fuser, name) for name in ('groups', *MARKS)} if fuser else {}
        with frozen(model, parameters=True), sdpa_kernel(SDPBackend.MATH):  # other kernels differentiate once
            cosines = alignment(asked.loss_fn, asked.clean, asked.noisy, asked.channels)
        for name, value in before.items():  # of the training batch, for the fusion loss
            setattr(fuser, name, value)
        return {**losses, 'loss_align': self._weight * asked.share * (1 - cosines).mean()}


def aligned(
    attack: PGD, model: nn.Module, clean: list[Tensor], samples: list, rng: Generators, share: float
) -> Aligned | None:
    """What to ask of a batch of which an attack is to change some images; None where its radius is 0."""
    budgets = [budget for budget in PGD.budgets(attack, clean[0].size(0)) if budget.eps]  # N-FGSM's own is wider
    if not budgets:
        return None
    noisy = make_ball(attack.norm, clean, budgets, (0.0, 255.0)).random_points(rng)
    loss_fn = Questions(attack.objective, model, samples, clean, training=True)
    return Aligned(loss_fn, clean, noisy, [budget.channels for budget in budgets], share)


def alignment(
    loss_fn: Questions, images: Sequence[Tensor], others: Sequence[Tensor], channels: Sequence[slice]
) -> Tensor:
    """Cosine of each image's input gradients at two points, differentiable.

    Args:
        loss_fn (Questions): see :data:`~.functional.LossFunction`; ``loss_fn.of(places)`` is that of some images alone.
        images, others: N tensors (C, H_i, W_i) each.
        channels: groups of channels over which the cosine is taken.

    Returns:
        (N,), in [-1, 1]; 1, and no gradient, for an image one of whose gradients is 0 or not finite. Such an image
        would spoil the weights' gradients even at a weight of 0, since 0 times infinity is no number: the others are
        asked for again without it.
    """
    points = [point.detach().requires_grad_() for point in (*images, *others)]
    losses = complete(loss_fn(points, 0.0)).loss
    if not losses.requires_grad:  # no image reaches the loss
        return torch.ones_like(losses[: len(images)])
    gradients = torch.autograd.grad(losses.sum(), points, create_graph=True, allow_unused=True, materialize_grads=True)
    rows = [torch.cat([gradient[part].flatten() for part in channels]) for gradient in gradients]
    sizes = torch.stack([row.detach().abs().amax() for row in rows]).view(2, -1)
    known = ((sizes > 0) & sizes.isfinite()).all(0).tolist()
    if all(known):
        return torch.stack([cosine(*pair) for pair in zip(rows[: len(images)], rows[len(images) :], strict=True)])
    del losses, gradients, rows  # and what they keep
    places = [place for place, is_known in enumerate(known) if is_known]
    cosines = sizes.new_ones(len(images))
    if not places:
        return cosines
    part = alignment(loss_fn.of(places), [images[i] for i in places], [others[i] for i in places], channels)
    return cosines.index_put((torch.tensor(places, device=cosines.device),), part)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Of two vectors (D,) that are neither 0 nor infinite; no square overflows or vanishes, whatever their lengths."""
    first, second = (vector / vector.detach().abs().amax() for vector in (first, second))
    return (first @ second) / (first.norm() * second.norm())
