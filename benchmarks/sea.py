"""Auto-PGD as SEA runs it (Croce et al., ECCV 2024), by its paper and reference, written anew: for cross-checks alone.

One image at a time, and nothing of the package: where both agree, they agree by the paper.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # a label that is none, as in torch's cross-entropy
LOSSES = ('jensen_shannon', 'masked_cross_entropy', 'balanced_cross_entropy')


def sea_loss(name: str, logits: Tensor, label: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """What one of the attacks of SEA climbs, the sum over the pixels of logits (K, H, W) with labels (H, W)."""
    labelled = label != IGNORED
    if name == 'jensen_shannon':
        log_p = logits.log_softmax(0)[:, labelled]
        truth = F.one_hot(label[labelled], len(logits)).T.bool()
        log_middle = torch.where(truth, log_p.exp().log1p(), log_p) - math.log(2)  # of the mean of p and the truth
        return ((log_p.exp() * (log_p - log_middle)).sum() - log_middle[truth].sum()) / 2
    losses = F.cross_entropy(logits[None], label[None], reduction='none')[0] * (logits.argmax(0) == label).detach()
    return (losses * class_weight[label.clamp_min(0)]).sum() if name == 'balanced_cross_entropy' else losses.sum()


def sea(model: Callable, image: Tensor, label: Tensor, eps: float, steps: int, loss: Callable, start: Tensor) -> Tensor:
    """The point of least accuracy that Auto-PGD finds within eps of an image (C, H, W) of values up to 255.

    ``model`` maps an image to logits (K, H, W), and ``loss`` these to what is climbed. Three balls, steered by the mean
    cross-entropy, each stage from the least accurate point of the one before.
    """
    labelled = label != IGNORED

    def ask(x):
        x = x.clone().requires_grad_()
        logits = model(x)
        entropy = F.cross_entropy(logits[None], label[None])
        gradient = torch.autograd.grad(loss(logits), x)[0]
        return gradient, entropy.item(), (logits.argmax(0) == label)[labelled].double().mean().item()

    lengths = [int(0.3 * steps)] * 2
    x = start
    for radius, count in zip((2 * eps, 1.5 * eps, eps), (*lengths, steps - sum(lengths)), strict=True):
        low, high = (image - radius).clamp_min(0), (image + radius).clamp_max(255)
        x = x.clamp(low, high)
        gradient, steer, accuracy = ask(x)
        least, best, best_steer, best_gradient, old = (accuracy, x), x, steer, gradient, x
        step, since, wins, checked, reduced = 2 * radius, 0, 0, steer, True
        interval, shrink, shortest = (max(int(share * count), 1) for share in (0.22, 0.03, 0.06))
        last = steer
        for i in range(count):
            z = (x + step * gradient.sign()).clamp(low, high)
            share = 0.75 if i else 1.0
            x, old = (x + share * (z - x) + (1 - share) * (x - old)).clamp(low, high), x
            gradient, steer, accuracy = ask(x)
            if accuracy < least[0]:
                least = accuracy, x
            wins, last = wins + (steer > last), steer
            if steer > best_steer:
                best, best_steer, best_gradient = x, steer, gradient
            since += 1
            if since == interval:
                reduce = wins < 0.75 * since or (not reduced and checked >= best_steer)
                if reduce:
                    step, x, gradient = step / 2, best, best_gradient
                reduced, checked, since, wins = reduce, best_steer, 0, 0
                interval = max(interval - shrink, shortest)
        x = least[1]
    return x
