"""Losses of single pixels that attacks on segmentations maximise: pure functions of torch.

Each maps logits z (N, K, H, W), labels y (N, H, W) with values of 0..K-1, and the share of the attack's steps that are
done to one loss per pixel, (N, H, W). Whatever is ignored is dealt with by the caller: a label there is any class;
and so are infinite logits, see :func:`bounded`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BEYOND = 100.0  # the odds of a logit that is infinite: exp(100) to 1


def cross_entropy(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """-log p_y."""
    return F.cross_entropy(logits, labels, reduction='none')


def masked_cross_entropy(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the pixels that are still right, so that no effort goes into lost ones (SEA, ECCV 2024)."""
    return cross_entropy(logits, labels, progress) * right(logits, labels)


def balanced_cross_entropy(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """:func:`masked_cross_entropy` in which every class of an image counts alike, however few pixels it has (SEA).

    A pixel weighs H W / (classes in the image x pixels of its class): 1 on average.
    """
    flat = labels.flatten(1)
    counts = torch.zeros(logits.shape[:2], dtype=torch.long, device=flat.device)  # (N, K); bincount would synchronise
    counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.long))
    share = counts.gather(1, flat).view_as(labels)
    present = (counts > 0).sum(1).view(-1, 1, 1)
    weight = labels[0].numel() / (present * share)
    return masked_cross_entropy(logits, labels, progress) * weight


def class_weighted_cross_entropy(class_weight: Tensor, logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """:func:`masked_cross_entropy` in which a pixel weighs what is given for its class (K,), for the data set (SEA)."""
    return masked_cross_entropy(logits, labels, progress) * class_weight.to(logits)[labels]


def jensen_shannon(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """Jensen-Shannon divergence of the softmax p and the one-hot label, in [0, log 2] (SEA).

    With m = (1 + p_y) / 2 it is (log(1 / m) + (1 - p_y) log 2 + p_y log(p_y / m)) / 2, a function of p_y alone. Its
    gradient fades for pixels that are lost, as the masked losses' does, without a step.
    """
    log_p = -cross_entropy(logits, labels, progress)
    p = log_p.exp()
    log_m = torch.log1p(p) - math.log(2)
    return ((1 - p) * math.log(2) + p * (log_p - log_m) - log_m) / 2


def segpgd(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """SegPGD (Gu et al., ECCV 2022): (1 - lambda) x cross-entropy of right pixels, lambda x that of wrong ones.

    lambda_t = (t - 1) / (2 T) grows over the steps t = 1..T from 0 towards 1/2, where all pixels count alike.
    """
    weight = torch.where(right(logits, labels), 1 - progress / 2, progress / 2)
    return cross_entropy(logits, labels, progress) * weight


def cospgd(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """CosPGD (Agnihotri et al., ICML 2024): cross-entropy x cosine of the softmax and the one-hot label, p_y / |p|.

    The cosine is a weight, through which no gradient flows.
    """
    p = logits.detach().softmax(1)
    weight = p.gather(1, labels[:, None]).squeeze(1) / p.norm(dim=1)
    return cross_entropy(logits, labels, progress) * weight


def margin(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """min(max_{j != y} z_j - z_y, 0), Carlini and Wagner's: pixels that are wrong have given all."""
    return -logit_margin(logits, labels).clamp_min(0)


def dlr(logits: Tensor, labels: Tensor, progress: float) -> Tensor:
    """Difference of logits ratio (Croce and Hein, ICML 2020), clamped as :func:`margin`: the margin over z_1st - z_3rd.

    Unlike the margin it does not change with the logits' scale. With two classes there is no third: the margin is
    taken over z_1st - z_2nd, its own size, and only its sign is left.
    """
    ordered = logits.sort(1, descending=True).values
    spread = ordered[:, 0] - ordered[:, min(2, logits.size(1) - 1)]
    return -(logit_margin(logits, labels) / spread.clamp_min(1e-12)).clamp_min(0)


def scaled_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """:func:`logit_margin` over z_1st - z_3rd; with two classes, the margin itself.

    No gradient flows through the scale, which changes no sign.
    """
    if logits.size(1) < 3:
        return logit_margin(logits, labels)
    largest = logits.detach().topk(3, dim=1).values
    return logit_margin(logits, labels) / (largest[:, 0] - largest[:, 2]).clamp_min(1e-12)


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y - max_{j != y} z_j, above 0 where a pixel is right."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own - others.amax(1)


def bounded(logits: Tensor) -> Tensor:
    """Logits (N, K, H, W) in which infinite ones lie :data:`BEYOND` the finite ones of their image, with no gradient.

    A softmax and an order of classes are what they would be in the limit, and so are the signs of margins; two logits
    that are both infinite are level. What is no number stays none.
    """
    finite, values = logits.isfinite(), logits.detach()
    high = torch.where(finite, values, -torch.inf).amax((1, 2, 3), keepdim=True)
    low = torch.where(finite, values, torch.inf).amin((1, 2, 3), keepdim=True)
    high, low = (torch.where(end.isfinite(), end, 0) for end in (high, low))  # 0: of an image without a finite one
    return torch.where(logits == torch.inf, high + BEYOND, torch.where(logits == -torch.inf, low - BEYOND, logits))


@torch.no_grad()
def right(logits: Tensor, labels: Tensor) -> Tensor:
    """Which pixels are classified rightly, (N, H, W) bool."""
    return logits.max(1).indices == labels  # argmax takes four times as long on a CPU


PIXEL_LOSSES = {
    function.__name__: function
    for function in (
        cross_entropy,
        masked_cross_entropy,
        balanced_cross_entropy,
        jensen_shannon,
        segpgd,
        cospgd,
        margin,
        dlr,
    )
}
#: Losses that fall as pixels are lost, or hardly rise: Auto-PGD is steered by the mean cross-entropy instead (SEA).
STEERED = ('masked_cross_entropy', 'balanced_cross_entropy', 'jensen_shannon')
#: What changes its weights from step to step, so that its values can't be compared over an attack.
SCHEDULED = ('segpgd',)
