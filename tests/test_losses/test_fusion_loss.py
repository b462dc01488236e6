"""The fusion loss in both forms."""

import numpy as np
import pytest
import torch

from paif_mm.losses import FusionLoss, saliency_weights


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    ir, vis = torch.rand(2, 3, 1, 24, 20, generator=generator).unbind(0)
    weight_ir, weight_vis = saliency_weights(ir, vis)
    return ir, vis, weight_ir * ir + weight_vis * vis


def test_the_target_itself_costs_nothing(pair):
    ir, vis, target = pair
    assert FusionLoss()(target, ir, vis).item() == pytest.approx(0, abs=1e-6)


def test_constant_images_by_hand():
    """x = .8, y = .4: no saliency, t = .6; u = .5. SSIM of constants is (2ut + c1)/(u^2 + t^2 + c1), c1 = .01^2."""
    shape = (1, 1, 16, 16)
    u, x, y = (torch.full(shape, value) for value in (0.5, 0.8, 0.4))
    ssim = (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4)
    assert FusionLoss()(u, x, y).item() == pytest.approx(0.1 + 1.1 * (1 - ssim), abs=5e-4)
    paper = (0.5 - 0.4) ** 2 + (0.5 - 0.2) ** 2 + (1 - ssim)
    assert FusionLoss(form='paper')(u, x, y).item() == pytest.approx(paper, abs=5e-4)
    weighted = FusionLoss(intensity_weight=2, ssim_weight=0)(u, x, y)
    assert weighted.item() == pytest.approx(0.2, abs=1e-6)


def test_the_paper_form_is_least_at_half_the_brightness(pair):
    """Its intensity terms alone: the minimiser is t / 2; the release's is t."""
    ir, vis, target = pair
    for form, factor in (('paper', 0.5), ('target', 1.0)):
        loss = FusionLoss(form=form, ssim_weight=0)
        fused = torch.full_like(ir, 0.5).requires_grad_()
        optimizer = torch.optim.Adam([fused], lr=0.02)
        for step in range(300):
            optimizer.param_groups[0]['lr'] = 0.02 * (1 - step / 300)
            optimizer.zero_grad()
            loss(fused, ir, vis).backward()
            optimizer.step()
        assert (fused.mean() / target.mean()).item() == pytest.approx(factor, abs=0.01)


def test_ssim_agrees_with_scikit_image(pair):
    metrics = pytest.importorskip('skimage.metrics')
    ir, vis, target = pair
    fused = (target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    ours = 1 - FusionLoss(intensity_weight=0, ssim_weight=1)(fused, ir, vis, reduction='none')
    for i in range(len(ir)):
        images = (fused[i, 0].double().numpy(), target[i, 0].double().numpy())
        # pytorch-msssim keeps the windows that lie inside the image: 5 pixels from the border
        _, full = metrics.structural_similarity(
            *images, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        assert ours[i].item() == pytest.approx(np.mean(full[5:-5, 5:-5]), abs=1e-4)


def test_one_value_per_image_on_request(pair):
    ir, vis, _ = pair
    loss = FusionLoss()
    values = loss(ir, ir, vis, reduction='none')
    assert values.shape == (3,)
    torch.testing.assert_close(values.mean(), loss(ir, ir, vis))
    torch.testing.assert_close(values[1:2], loss(ir[1:2], ir[1:2], vis[1:2], reduction='none'))


def test_only_the_fused_image_gets_a_gradient_and_it_is_finite(pair):
    ir, vis, _ = pair
    fused = torch.full_like(ir, 0.5, requires_grad=True)  # constant: no variance for SSIM to divide by
    FusionLoss()(fused, ir.requires_grad_(), vis).backward()
    assert torch.isfinite(fused.grad).all()
    assert fused.grad.abs().sum() > 0


def test_it_stays_in_fp32_under_autocast(pair):
    ir, vis, _ = pair
    exact = FusionLoss()(ir, ir, vis)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(FusionLoss()(ir, ir, vis), exact)


def test_small_images_and_unknown_forms_are_refused():
    small = torch.rand(1, 1, 10, 30)
    with pytest.raises(ValueError, match='11 x 11'):
        FusionLoss()(small, small, small)
    with pytest.raises(ValueError, match='literal'):
        FusionLoss(form='literal')
