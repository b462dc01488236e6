"""The smallest perturbation that makes a share of an image's pixels wrong: what all searches for it share, torch only.

A fixed radius says what is left inside of it; the least norm says where each image falls.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Maps a list of N images (C, H_i, W_i) to the margins of their labelled pixels, N tensors (P_i,): above 0 where a
#: pixel is right, its own logit minus the best other one, in whatever positive unit. No number: a wrong pixel.
MarginFunction = Callable[[list[Tensor]], list[Tensor]]

HALVINGS = 12  # of the last line search


class Search(ABC):
    """One image's perturbation, and the best of what was seen; all on the image's device.

    Args:
        image: (C, H, W), what may be changed of it.
        share: of the labelled pixels that must be wrong, in (0, 1].
        norm: ``'linf'`` or ``'l2'``.
        bounds: the box of valid values.
    """

    def __init__(self, image: Tensor, share: float, norm: str, bounds: tuple[float, float]):
        self.image, self.share, self.norm, self.bounds = image, share, norm, bounds
        self.low, self.high = bounds[0] - image, bounds[1] - image
        self.delta = torch.zeros_like(image)
        self.best, self.best_wrong = self.delta, image.new_tensor(-1.0)
        self.best_norm = image.new_tensor(torch.inf)

    @abstractmethod
    def weights(self, margins: Tensor, reached: Tensor, progress: float) -> Tensor:
        """How much each pixel's margin counts, (P,); learns from where the search stands.

        Args:
            margins: (P,), no gradient flows through them.
            reached: whether enough of them are negative, () bool.
            progress: share of the steps that are done.
        """

    @abstractmethod
    def move(self, gradient: Tensor, progress: float) -> None:
        """Change ``delta`` by the gradient (C, H, W) of the weighted sum of margins."""

    def is_done(self) -> bool:
        """Whether further steps would find nothing."""
        return False

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

    def dual_size(self, gradient: Tensor) -> Tensor:
        """The norm that belongs to gradients, never 0."""
        size = gradient.abs().sum() if self.norm == 'linf' else gradient.norm()
        return size.clamp_min(torch.finfo(gradient.dtype).tiny)


def minimum_norm(
    searches: Sequence[Search],
    margins_fn: MarginFunction,
    images: Sequence[Tensor],
    steps: int,
    channels: slice = slice(None),
) -> tuple[list[Tensor], Tensor]:
    """Let each image's search make its steps, and shorten what it found by a line search.

    Args:
        searches: one for each image, of ``image[channels]``.
        margins_fn: see :data:`MarginFunction`. Its images must not influence each other.
        images: N tensors (C, H_i, W_i), float, within the searches' bounds.
        steps: one forward and one backward pass each; :data:`HALVINGS` forward passes follow.
        channels: what may be changed; the others stay as they are, bit for bit.

    Returns:
        The images found, and the norms (N,) of their perturbations in units of ``images``; where none was found, the
        image with most wrong pixels, and infinity.
    """
    done = [False] * len(searches)  # asked once a step: on a GPU it waits
    for step in range(steps):
        points = [
            _placed(image, channels, search.placed(search.delta)).requires_grad_()
            for image, search in _both(images, searches)
        ]
        margins = _numbers(margins_fn(points))
        weights = [
            torch.zeros_like(d)
            if over
            else search.weights(d.detach(), search.see(search.delta, d.detach()), step / steps)
            for d, search, over in zip(margins, searches, done, strict=True)
        ]
        done = [over or search.is_done() for search, over in _both(searches, done)]
        if all(done):
            break
        total = sum((weight * d).sum() for weight, d in _both(weights, margins))
        gradients = [torch.zeros_like(point) for point in points]
        if total.requires_grad:  # else the model cut its images off, or nothing is labelled
            gradients = torch.autograd.grad(total, points, allow_unused=True, materialize_grads=True)
        for gradient, search, over in zip(gradients, searches, done, strict=True):
            if not over:  # whatever its neighbours in the batch still need
                search.move(torch.nan_to_num(gradient[channels], nan=0.0, posinf=0.0, neginf=0.0), step / steps)
    with torch.no_grad():
        _shorten(margins_fn, images, searches, channels)
    return [
        _placed(image, channels, search.placed(search.best)) for image, search in _both(images, searches)
    ], torch.stack([search.best_norm for search in searches])


def asked(margins: Tensor, share: float) -> Tensor:
    """The share of the pixels (P,) that are nearest to being wrong, or are; the others' constraints are masked out."""
    if not margins.numel():
        return torch.ones_like(margins, dtype=torch.bool)
    return margins <= margins.kthvalue(math.ceil(share * margins.numel())).values


def _shorten(margins_fn: MarginFunction, images, searches: list[Search], channels: slice) -> None:
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
