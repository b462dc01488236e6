"""Projected gradient attacks on lists of images, torch only: the ball, the worst iterate, and one loop."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .transforms import diversify, smooth_gradient


class Losses(NamedTuple):
    """What an attack learns about N images, (N,) each.

    ``loss`` is what gradients raise; ``harm`` decides which iterate is the worst, ties going to the higher loss. They
    differ where the loss is a means: its weights may change from step to step, and it may rise without changing a
    single decision of the model. ``steer`` tells Auto-PGD whether it gets on; None: the loss does. A loss that leaves
    out what is lost already can't, as it falls with every success.
    """

    loss: Tensor
    harm: Tensor
    steer: Tensor | None = None


#: Maps a list of N images (C, H_i, W_i), and the share of the attack's steps that are done (0 in the first step, 1 for
#: a last look), to :class:`Losses`, or to losses (N,) that are the harm, too; larger is worse for the model. Where
#: several restarts run at once, the list holds all N images of one restart after those of another. A method
#: ``found(harm)``, if it has one, is told the worst harm so far. A number ``eot_samples``, if it has one, says over how
#: many calls losses and gradients are averaged: for models that draw at random (expectation over transformation,
#: Athalye et al., ICML 2018).
LossFunction = Callable[[list[Tensor], float], 'Tensor | Losses']
#: One generator per image, so that what is random about an image does not depend on its batch; None: torch's own. CPU
#: generators draw the same numbers whatever the device, generators of the images' device spare the way to it.
Generators = Sequence[torch.Generator] | None


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
    momentum: float = 0.0,
    input_diversity: float = 0.0,
    smoothing: int = 0,
    restarts_at_once: int = 1,
    rng: Generators = None,
    bounds: tuple[float, float] = (0.0, 255.0),
) -> tuple[list[Tensor], Losses | None]:
    """Maximise each image's loss within a ball around it by projected gradient ascent (Madry et al. 2018).

    One step and no random start is FGSM; several steps and no random start is BIM; with momentum it is MI-FGSM (Dong et
    al. 2018). Images may differ in size.

    Args:
        loss_fn: see :data:`LossFunction`. Its images must not influence each other.
        images: N tensors (C, H_i, W_i), float, within ``bounds``.
        budgets: disjoint channel groups with a radius and step each, in units of ``images``. Channels without a
            budget, or with radius 0, stay as they are, bit for bit.
        steps: number of gradient steps, one forward and one backward pass each.
        norm: ``'linf'`` (sign steps, radius per pixel) or ``'l2'`` (normalised steps, radius of the group's norm).
        random_start: start at a uniformly random point of the ball instead of its centre.
        restarts: number of tries; the worst result of each image is kept.
        keep: ``'worst'`` returns the iterate of highest harm per image and costs one forward pass more than
            ``'last'``, which returns the last one.
        momentum: mu in g <- mu g + gradient / mean |gradient|, whose direction is followed. 0: the gradient itself.
        input_diversity: probability that a step sees an image resampled, see :func:`~.transforms.diversify`. Asks for
            ``keep='last'``, as iterates seen through different transforms can't be compared.
        smoothing: side of the Gaussian that smooths gradients, see :func:`~.transforms.smooth_gradient`. 0: none.
        restarts_at_once: restarts that share a batch; the results are those of one after the other, save that
            ``input_diversity`` draws other views.
        rng: see :data:`Generators`.
        bounds: the box of valid values, known, never read off the data.

    Returns:
        The attacked images, and their losses (N,), or None where no choice needed them
        (``keep='last'`` and one restart).
    """
    check_settings(norm, keep, input_diversity)
    needs_losses = keep == 'worst' or restarts > 1

    def climb(images: list[Tensor], rng: Generators) -> tuple[list[Tensor], Losses | None]:
        ball = make_ball(norm, images, budgets, bounds)
        points = ball.random_points(rng) if random_start else [image.clone() for image in images]
        worst, velocity = Worst(images, loss_fn), None
        seen = diversify(loss_fn, input_diversity, rng) if input_diversity else loss_fn
        for step in range(steps):
            losses, gradients = ascent(seen, points, step / steps)
            if keep == 'worst':
                worst.update(points, losses)
            if smoothing:
                gradients = [smooth_gradient(gradient, smoothing) for gradient in gradients]
            if momentum:
                velocity = gradients = accumulate(velocity, gradients, momentum)
            points = ball.ascend(points, gradients)
        if not needs_losses:
            return points, None
        worst.update(points, look(loss_fn, points))
        return worst.images, worst.losses

    return worst_of_restarts(climb, images, restarts, restarts_at_once, rng)


def worst_of_restarts(
    climb: Callable[[list[Tensor], Generators], tuple[list[Tensor], Losses | None]],
    images: Sequence[Tensor],
    restarts: int,
    at_once: int,
    rng: Generators,
) -> tuple[list[Tensor], Losses | None]:
    """The worst result per image of several calls of ``climb``, of which ``at_once`` share a batch."""
    count, worst = len(images), Worst(images)
    for first in range(0, restarts, at_once):
        copies = min(at_once, restarts - first)
        found, losses = climb(list(images) * copies, rng and list(rng) * copies)
        if restarts == 1:
            return found, losses
        for start in range(0, count * copies, count):
            part = slice(start, start + count)
            worst.update(found[part], Losses(losses.loss[part], losses.harm[part]))
    return worst.images, worst.losses


def differentiate(loss_fn: LossFunction, points: Sequence[Tensor], progress: float) -> tuple[Losses, list[Tensor]]:
    """Losses of images, detached, and the gradient of each one's loss towards it; means over the loss's samples."""
    samples = getattr(loss_fn, 'eot_samples', 1)
    losses, gradients = _differentiate_once(loss_fn, points, progress)
    for _ in range(samples - 1):  # one after the other: a graph of all of them would take as many times the memory
        more, others = _differentiate_once(loss_fn, points, progress)
        losses = _sum(losses, more)
        gradients = [gradient + other for gradient, other in zip(gradients, others, strict=True)]
    if samples == 1:
        return losses, gradients
    return Losses(*(value / samples for value in losses)), [gradient / samples for gradient in gradients]


def _differentiate_once(loss_fn: LossFunction, points: Sequence[Tensor], progress: float):
    points = [point.detach().requires_grad_() for point in points]
    losses = complete(loss_fn(points, progress))
    # an image that the loss no longer asks about, or that a model cut off its output, has a gradient of 0
    if not losses.loss.requires_grad:
        return losses, [torch.zeros_like(point) for point in points]
    gradients = torch.autograd.grad(losses.loss.sum(), points, allow_unused=True, materialize_grads=True)
    return Losses(*(value.detach() for value in losses)), list(gradients)


def ascent(loss_fn: LossFunction, points: Sequence[Tensor], progress: float) -> tuple[Losses, list[Tensor]]:
    """As :func:`differentiate`, where values of gradients that are not finite say nothing: they become 0.

    A method ``blinded(flags)`` of the loss function, if it has one, is told which images (N,) have such values.
    """
    losses, gradients = differentiate(loss_fn, points, progress)
    tell = getattr(loss_fn, 'blinded', None)
    if tell:
        tell(torch.stack([~torch.isfinite(gradient).all() for gradient in gradients]))
    return losses, [torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0) for gradient in gradients]


@torch.no_grad()
def look(loss_fn: LossFunction, points: Sequence[Tensor]) -> Losses:
    """Losses of images, without gradients; means over the loss's samples."""
    samples = getattr(loss_fn, 'eot_samples', 1)
    losses = complete(loss_fn(list(points), 1.0))
    for _ in range(samples - 1):
        losses = _sum(losses, complete(loss_fn(list(points), 1.0)))
    return losses if samples == 1 else Losses(*(value / samples for value in losses))


def _sum(a: Losses, b: Losses) -> Losses:
    return Losses(*(one + other for one, other in zip(a, b, strict=True)))


def complete(losses: Tensor | Losses) -> Losses:
    """Losses that are the harm, too, or that steer, as :class:`Losses` without a gap."""
    losses = losses if isinstance(losses, Losses) else Losses(losses, losses)
    return losses if losses.steer is not None else losses._replace(steer=losses.loss)


@torch.no_grad()
def accumulate(velocity: list[Tensor] | None, gradients: Sequence[Tensor], momentum: float) -> list[Tensor]:
    """mu g + gradient / mean |gradient| of each image."""
    scaled = [g / g.abs().mean().clamp_min(torch.finfo(g.dtype).tiny) for g in gradients]
    return scaled if velocity is None else [momentum * v + g for v, g in zip(velocity, scaled, strict=True)]


def check_settings(norm: str, keep: str, input_diversity: float = 0.0) -> None:
    """Refuse settings of :func:`projected_gradient` that are unknown words or don't go together."""
    if norm not in ('linf', 'l2'):
        raise ValueError(f"norm must be 'linf' or 'l2', not {norm!r}")
    if keep not in ('worst', 'last'):
        raise ValueError(f"keep must be 'worst' or 'last', not {keep!r}")
    if input_diversity and keep != 'last':
        raise ValueError("input_diversity needs keep='last': iterates seen through other transforms can't be compared")


def check_samples(eot_samples: int) -> int:
    """The number itself; raises ValueError where it is none of draws."""
    if not isinstance(eot_samples, int) or isinstance(eot_samples, bool) or eot_samples < 1:
        raise ValueError(f'eot_samples must be a whole number from 1, not {eot_samples!r}')
    return eot_samples


def make_ball(
    norm: str, images: Sequence[Tensor], budgets: Sequence[Budget], bounds: tuple[float, float]
) -> 'LinfBall | L2Ball':
    """What a norm of ``'linf'`` or ``'l2'`` allows around each image."""
    return (LinfBall if norm == 'linf' else L2Ball)(images, budgets, bounds)


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

    def random_points(self, rng: Generators = None, share: float = 1.0) -> list[Tensor]:
        """Uniform within so large a share of the radius."""
        noise = [drawn(image, 'uniform_', g, -share, share) for image, g in per_image(self.images, rng)]
        return self.project([image + n * eps for image, n, eps in zip(self.images, noise, self.eps, strict=True)])

    @torch.no_grad()
    def ascend(self, points: list[Tensor], gradients: Sequence[Tensor], radii: Tensor | None = None) -> list[Tensor]:
        """One step; of the budgets' length, or of so many radii of the ball for each image (N,)."""
        lengths = self.step if radii is None else [r * eps for r, eps in zip(radii, self.eps, strict=True)]
        return self.project([p + g.sign() * s for p, g, s in zip(points, gradients, lengths, strict=True)])

    def project(self, points: list[Tensor]) -> list[Tensor]:
        return [torch.clamp(p, low, high) for p, low, high in zip(points, self.low, self.high, strict=True)]


class L2Ball:
    """||x - x0||_2 <= eps of each channel group, intersected with the box (which only shrinks the norm)."""

    def __init__(self, images: Sequence[Tensor], budgets: Sequence[Budget], bounds: tuple[float, float]):
        self.images, self.bounds = images, bounds
        self.budgets = [budget for budget in budgets if budget.eps > 0]

    def random_points(self, rng: Generators = None) -> list[Tensor]:
        points = [image.clone() for image in self.images]
        for point, g in per_image(points, rng):
            for channels, eps, _ in self.budgets:
                direction = drawn(point[channels], 'normal_', g)
                radius = eps * drawn(point.new_empty(()), 'uniform_', g)
                point[channels] += direction * (radius / direction.norm())
        return self.project(points)

    @torch.no_grad()
    def ascend(self, points: list[Tensor], gradients: Sequence[Tensor], radii: Tensor | None = None) -> list[Tensor]:
        """As :meth:`LinfBall.ascend`, along normalised gradients."""
        moved = [point.detach().clone() for point in points]
        for i, (point, gradient) in enumerate(zip(moved, gradients, strict=True)):
            for channels, eps, step in self.budgets:
                tiny = torch.finfo(gradient.dtype).tiny
                direction = gradient[channels] / gradient[channels].abs().amax().clamp_min(tiny)  # no square overflows
                length = step if radii is None else radii[i] * eps
                point[channels] += direction * (length / direction.norm().clamp_min(tiny))
        return self.project(moved)

    def project(self, points: list[Tensor]) -> list[Tensor]:
        for point, image in zip(points, self.images, strict=True):
            for channels, eps, _ in self.budgets:
                delta = point[channels] - image[channels]
                shrink = (eps / delta.norm().clamp_min(eps)).clamp_max(1)  # 1 inside the ball
                point[channels] = (image[channels] + delta * shrink).clamp(*self.bounds)
        return points


class Worst:
    """The image of highest harm seen so far, for each place of the batch; tells the loss function what that is.

    A harm that is no number counts less than any other.
    """

    def __init__(self, images: Sequence[Tensor], loss_fn: LossFunction | None = None):
        self.images = [image.clone() for image in images]
        self.losses: Losses | None = None
        self.tell = getattr(loss_fn, 'found', None)

    def update(self, points: Sequence[Tensor], losses: Losses) -> None:
        self._merge(points, losses)
        if self.tell:
            self.tell(self.losses.harm)

    def _merge(self, points: Sequence[Tensor], losses: Losses) -> None:
        if self.losses is None:
            self.images, self.losses = [point.detach() for point in points], losses
            return
        (loss, harm, _), (best_loss, best_harm, _) = losses, self.losses
        better = (harm > best_harm) | ((harm == best_harm) & (loss > best_loss)) | (best_harm.isnan() & ~harm.isnan())
        self.losses = Losses(torch.where(better, loss, best_loss), torch.where(better, harm, best_harm))
        # torch.where keeps the choice on the device: no synchronisation per step.
        self.images = [
            torch.where(b, point.detach(), image) for b, point, image in zip(better, points, self.images, strict=True)
        ]


def per_image(images: Sequence[Tensor], rng: Generators):
    """Each image with its generator, or with None."""
    return zip(images, rng or [None] * len(images), strict=True)


def drawn(like: Tensor, law: str, generator: torch.Generator | None, *args) -> Tensor:
    """Random values of the shape and kind of a tensor, by an in-place method; drawn on the generator's device."""
    if generator is None:
        return getattr(torch.empty_like(like), law)(*args)
    return getattr(torch.empty(like.shape, device=generator.device), law)(*args, generator=generator).to(like)


def drawn_integers(low: int, high: int, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Random integers in [low, high), drawn on the generator's device (on the CPU without one)."""
    return torch.randint(low, high, size, generator=generator, device=generator and generator.device)


def _per_channel(image: Tensor, budgets: Sequence[Budget], field: str) -> Tensor:
    """A budget's field as (C, 1, 1); 0 for channels without a budget."""
    values = image.new_zeros(image.size(0), 1, 1)
    for budget in budgets:
        values[budget.channels] = getattr(budget, field)
    return values
