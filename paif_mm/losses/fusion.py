"""The fusion loss L_F (Eq. 6)."""

import torch
from pytorch_msssim import ssim
from torch import Tensor, nn

from paif_mm.registry import MODELS

from .saliency import saliency_weights

FORMS = ('target', 'paper')
WINDOW = 11  # of SSIM's Gaussian, pixels (Wang et al. 2004)


@MODELS.register_module()
class FusionLoss(nn.Module):
    """How far a fused luminance u is from the salient parts of its **clean** sources x (infrared) and y (visible).

    With the saliency weights M_x + M_y = 1 of :func:`saliency_weights` and the target t = M_x x + M_y y:

    * ``form='target'`` (the authors' release): ``intensity_weight * L1(u, t) + ssim_weight * (1 - SSIM(u, t))``;
    * ``form='paper'`` (Eq. 6 as printed): ``intensity_weight * (MSE(u, M_x x) + MSE(u, M_y y)) + ssim_weight *
      (1 - SSIM(u, t))``. Eq. 6 prints SSIM itself, which a loss cannot mean.

    The default is 'target': Eq. 6's two intensity terms ask u to equal both shares of t at once, so that they are
    least at u = t / 2, a fused image of half the brightness, against which its SSIM term pulls. ``benchmarks/
    fusion_loss_forms.py`` measures it on real pairs.

    Args:
        form (str): ``'target'`` or ``'paper'``.
        intensity_weight (float): weight of the intensity term(s). Default: 1.
        ssim_weight (float): weight of the SSIM term. Default: 1.1 for 'target' (the release), 1 for 'paper'.
    """

    def __init__(self, form: str = 'target', intensity_weight: float = 1.0, ssim_weight: float | None = None):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f'form must be one of {", ".join(FORMS)}, not {form!r}')
        self.form = form
        self.intensity_weight = intensity_weight
        self.ssim_weight = ssim_weight if ssim_weight is not None else (1.1 if form == 'target' else 1.0)

    def forward(self, fused: Tensor, ir: Tensor, vis: Tensor, reduction: str = 'mean') -> Tensor:
        """Compute the loss.

        Args:
            fused (Tensor): u, (N, 1, H, W).
            ir, vis (Tensor): the clean luminances, (N, 1, H, W) in [0, 1], also where the network saw attacked ones.
            reduction (str): ``'mean'`` over the images, or ``'none'`` for one value per image, (N,).

        Raises:
            ValueError: an image is smaller than SSIM's window of 11 x 11 pixels.
        """
        if min(fused.shape[-2:]) < WINDOW:
            raise ValueError(f'the fusion loss needs images of at least {WINDOW} x {WINDOW}, not {tuple(fused.shape)}')
        with torch.autocast(fused.device.type, enabled=False):  # SSIM subtracts nearly equal squares
            losses = self._per_image(fused.float(), ir.float(), vis.float())
        return losses.mean() if reduction == 'mean' else losses

    def _per_image(self, fused: Tensor, ir: Tensor, vis: Tensor) -> Tensor:
        weight_ir, weight_vis = saliency_weights(ir, vis)
        shares = weight_ir * ir, weight_vis * vis
        target = shares[0] + shares[1]
        if self.form == 'target':
            intensity = (fused - target).abs().mean((1, 2, 3))
        else:
            intensity = sum((fused - share).square().mean((1, 2, 3)) for share in shares)
        structure = 1 - ssim(fused, target, data_range=1, size_average=False, win_size=WINDOW)
        return self.intensity_weight * intensity + self.ssim_weight * structure
