"""The fusion loss L_F (Eq. 6)."""

import torch
import torch.nn.functional as F
from pytorch_msssim import ssim
from torch import Tensor, nn

from paif_mm.registry import MODELS
from paif_mm.spelling import check_choice

from .saliency import saliency_weights

SSIM_WEIGHTS = {'target': 1.1, 'paper': 1.0}  # default of each form
REDUCTIONS = ('mean', 'none')
WINDOW, DEVIATION = 11, 1.5  # of SSIM's Gaussian, pixels (Wang et al. 2004)


def fusion_loss(
    fused: Tensor,
    ir: Tensor,
    vis: Tensor,
    form: str = 'target',
    intensity_weight: float = 1.0,
    ssim_weight: float | None = None,
    reduction: str = 'mean',
) -> Tensor:
    """How far a fused luminance u is from the salient parts of its **clean** sources x (infrared) and y (visible).

    See :class:`FusionLoss` for the two forms. Computed in fp32 or better, also under autocast, and never in TF32. Only
    ``fused`` gets a gradient: the sources say what the result ought to be.

    Args:
        fused (Tensor): u, (N, 1, H, W).
        ir, vis (Tensor): the clean luminances, (N, 1, H, W) in [0, 1], also where the network saw attacked ones.
        form, intensity_weight, ssim_weight: see :class:`FusionLoss`.
        reduction (str): ``'mean'`` over the images, or ``'none'`` for one value per image, (N,).

    Raises:
        ValueError: an unknown form or reduction, shapes that differ or are not (N, 1, H, W), or images smaller than
            SSIM's window of 11 x 11 pixels.
    """
    check_choice('form', form, SSIM_WEIGHTS)
    check_choice('reduction', reduction, REDUCTIONS)
    check_luminances(fused, ir, vis)
    if min(fused.shape[-2:]) < WINDOW:
        raise ValueError(f'the fusion loss needs images of at least {WINDOW} x {WINDOW}, not {tuple(fused.shape)}')
    if ssim_weight is None:
        ssim_weight = SSIM_WEIGHTS[form]

    with torch.autocast(fused.device.type, enabled=False):
        fused, ir, vis = fused.float(), ir.detach().float(), vis.detach().float()
        weight_ir, weight_vis = saliency_weights(ir, vis)
        shares = weight_ir * ir, weight_vis * vis
        target = shares[0] + shares[1]
        if form == 'target':
            intensity = (fused - target).abs().mean((1, 2, 3))
        else:
            intensity = sum((fused - share).square().mean((1, 2, 3)) for share in shares)
        win = _window(fused.device)
        structure = (1 - ssim(*_exact(fused, target), data_range=1, size_average=False, win=win)).float()
        losses = intensity_weight * intensity + ssim_weight * structure  # (N,)
    return losses.mean() if reduction == 'mean' else losses


@MODELS.register_module()
class FusionLoss(nn.Module):
    """:func:`fusion_loss` as a module.

    With the saliency weights M_x + M_y = 1 of :func:`saliency_weights` and the target t = M_x x + M_y y:

    * ``form='target'`` (the authors' release): ``intensity_weight * L1(u, t) + ssim_weight * (1 - SSIM(u, t))``;
    * ``form='paper'`` (Eq. 6): ``intensity_weight * (MSE(u, M_x x) + MSE(u, M_y y)) + ssim_weight * (1 - SSIM(u, t))``.
      Eq. 6 prints norms, which its text calls MSE, and SSIM itself, which a loss to be minimised cannot mean.

    The default is 'target'. Eq. 6's two intensity terms, 2 (u - t / 2)^2 plus a constant at every pixel, ask for half
    of t's brightness, and its SSIM term for t: the result lies between, mostly with SSIM. Optimising u itself (8 pairs
    of MSRS, 300 steps, ``benchmarks/fusion_loss_forms.py``), 'paper' ends at .91 of t's brightness, entropy 6.06 bits,
    spatial frequency 12.3 and SSIM .612 to infrared and .796 to visible; 'target' reaches t: 6.21, 13.3, .596 and .817.
    So 'target' gives the brighter and crisper image, by a small margin, and 'paper' one slightly closer to infrared.

    Args:
        form (str): ``'target'`` or ``'paper'``.
        intensity_weight (float): weight of the intensity term(s). Default: 1.
        ssim_weight (float): weight of the SSIM term. Default: 1.1 for 'target' (the release), 1 for 'paper'.

    Raises:
        ValueError: an unknown form.
    """

    def __init__(self, form: str = 'target', intensity_weight: float = 1.0, ssim_weight: float | None = None):
        super().__init__()
        check_choice('form', form, SSIM_WEIGHTS)
        self.form = form
        self.intensity_weight = intensity_weight
        self.ssim_weight = SSIM_WEIGHTS[form] if ssim_weight is None else ssim_weight

    def forward(self, fused: Tensor, ir: Tensor, vis: Tensor, reduction: str = 'mean') -> Tensor:
        """Compute the loss; arguments, result and errors as in :func:`fusion_loss`."""
        return fusion_loss(fused, ir, vis, self.form, self.intensity_weight, self.ssim_weight, reduction)


def image_similarity(a: Tensor, b: Tensor) -> Tensor:
    """SSIM (N,) of images (N, C, H, W) in [0, 1], differentiable, mean over channels (Wang et al. 2004)."""
    if min(a.shape[-2:]) < WINDOW:
        raise ValueError(f'SSIM needs images of at least {WINDOW} x {WINDOW}, not {tuple(a.shape)}')
    with torch.autocast(a.device.type, enabled=False):
        win = _window(a.device).expand(a.size(1), -1, -1, -1)
        return ssim(*_exact(a.float(), b.float()), data_range=1, size_average=False, win=win).float()


def similarity_map(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of luminances around each pixel whose window lies inside: (N, 1, H, W) -> (N, 1, H - 10, W - 10)."""
    if min(a.shape[-2:]) < WINDOW:
        raise ValueError(f'SSIM needs images of at least {WINDOW} x {WINDOW}, not {tuple(a.shape)}')
    a, b = _exact(a, b)
    win = _window(a.device).to(a.dtype)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, win), win.mT)

    mean_a, mean_b = mean(a), mean(b)
    covariance = mean(a * b) - mean_a * mean_b
    variances = mean(a * a) - mean_a.square() + mean(b * b) - mean_b.square()
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).float()


def check_luminances(fused: Tensor, ir: Tensor, vis: Tensor) -> None:
    """Refuse what a fusion loss does not compare.

    Raises:
        ValueError: the shapes differ or are not (N, 1, H, W).
    """
    if not fused.shape == ir.shape == vis.shape or fused.dim() != 4 or fused.size(1) != 1:
        raise ValueError(
            f'the fusion loss compares luminances of one shape (N, 1, H, W), not fused {tuple(fused.shape)}, '
            f'ir {tuple(ir.shape)} and vis {tuple(vis.shape)}'
        )


def _exact(*images: Tensor) -> list[Tensor]:
    """What SSIM, which subtracts nearly equal squares, may be given.

    On CUDA, torch convolves fp32 in TF32 by default, forwards and backwards, but never fp64. A CPU's fp32 is exact.
    What fp64 costs was measured on one CPU core alone: the whole loss and its gradient take .85 to 1.07 times as long
    with it (1 and 4 pairs of 240x320, ``benchmarks/fusion_loss_forms.py --precision``).
    """
    return [image.double() if image.is_cuda else image for image in images]


def _window(device: torch.device) -> Tensor:
    """SSIM's Gaussian, (1, 1, 1, 11), made where it is used: on its way to a GPU, each iteration would wait for it."""
    offsets = torch.arange(WINDOW, dtype=torch.float, device=device) - WINDOW // 2
    return (-offsets.square() / (2 * DEVIATION**2)).softmax(0).view(1, 1, 1, WINDOW)
