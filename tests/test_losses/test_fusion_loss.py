"""The fusion loss in both forms."""

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from paif_mm.losses import FusionLoss, fusion_loss, saliency_weights
from paif_mm.registry import MODELS, build


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    ir, vis = torch.rand(2, 3, 1, 24, 20, generator=generator).unbind(0)
    weight_ir, weight_vis = saliency_weights(ir, vis)
    return ir, vis, weight_ir * ir + weight_vis * vis


def test_the_target_itself_costs_nothing(pair):
    ir, vis, target = pair
    assert FusionLoss()(target, ir, vis).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('form', ['target', 'paper'])
def test_the_function_and_the_module_agree(pair, form):
    ir, vis, _ = pair
    assert torch.equal(fusion_loss(ir, ir, vis, form), FusionLoss(form)(ir, ir, vis))
    built = build(MODELS, {'type': 'FusionLoss', 'form': form, 'intensity_weight': 2.0, 'ssim_weight': 0.5})
    assert torch.equal(fusion_loss(ir, ir, vis, form, 2.0, 0.5), built(ir, ir, vis))


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


def test_the_paper_forms_intensity_is_least_at_half_the_brightness(pair):
    """(u - a)^2 + (u - b)^2 is a quadratic: a gradient step of a quarter of the pixels lands on (a + b) / 2 = t / 2."""
    ir, vis, target = pair
    fused = torch.full_like(ir, 0.5, requires_grad=True)
    loss = FusionLoss(form='paper', ssim_weight=0)
    (gradient,) = torch.autograd.grad(loss(fused, ir, vis, reduction='none').sum(), fused)
    fused = fused - gradient * ir[0].numel() / 4
    torch.testing.assert_close(fused, target / 2)


def test_the_whole_paper_form_is_least_between_half_the_target_and_the_target(pair):
    ir, vis, target = pair
    half, between, whole = (fusion_loss(factor * target, ir, vis, 'paper') for factor in (0.5, 0.9, 1.0))
    assert between < whole < half


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


def test_only_the_fused_image_gets_a_gradient(pair):
    ir, vis, _ = pair
    fused = ((ir + vis) / 2).requires_grad_()
    FusionLoss()(fused, ir.requires_grad_(), vis.requires_grad_()).backward()
    assert fused.grad.abs().sum() > 0
    assert ir.grad is None
    assert vis.grad is None


@pytest.mark.parametrize('form', ['target', 'paper'])
def test_constant_images_have_finite_gradients(form):
    """No variance for SSIM to divide by; under 'target', no difference either: a norm's gradient would be 0 / 0."""
    constant = torch.full((1, 1, 16, 16), 0.4)
    for value in (0.0, 0.4):
        fused = torch.full_like(constant, value, requires_grad=True)
        FusionLoss(form)(fused, constant, constant).backward()
        assert torch.isfinite(fused.grad).all()


def test_it_stays_in_fp32_under_autocast(pair):
    ir, vis, _ = pair
    exact = FusionLoss()(ir, ir, vis)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(FusionLoss()(ir, ir, vis), exact)


@pytest.mark.gpu
def test_a_gpu_computes_the_same(pair):
    ir, vis, _ = pair
    with torch.autocast('cuda', dtype=torch.float16):
        on_gpu = FusionLoss()(ir.cuda(), ir.cuda(), vis.cuda())
    torch.testing.assert_close(on_gpu.cpu(), FusionLoss()(ir, ir, vis), rtol=0, atol=1e-4)


def test_what_cannot_be_computed_is_refused():
    image = torch.rand(2, 1, 16, 16)
    with pytest.raises(ValueError, match='11 x 11'):
        FusionLoss()(*3 * [torch.rand(1, 1, 10, 30)])
    with pytest.raises(ValueError, match='one shape'):
        FusionLoss()(image, image[:1], image)
    with pytest.raises(ValueError, match='one shape'):
        FusionLoss()(*3 * [torch.rand(2, 3, 16, 16)])
    with pytest.raises(ValueError, match='literal'):
        FusionLoss(form='literal')
    with pytest.raises(ValueError, match='sum'):
        FusionLoss()(image, image, image, reduction='sum')


@pytest.mark.parametrize(('device', 'dtype'), [('cpu', torch.float32), ('cuda', torch.float64)])
def test_ssim_is_convolved_in_a_precision_that_is_never_cut(device, dtype):
    """On CUDA torch runs fp32 convolutions in TF32 by default."""
    with FakeTensorMode(), Convolutions() as seen:
        loss = fusion_loss(*torch.rand(3, 2, 1, 16, 20, device=device))
    assert seen.dtypes == {dtype}
    assert loss.dtype == torch.float32


class Convolutions(TorchDispatchMode):
    """Notes the data types of convolutions that run inside."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if 'convolution' in func.overloadpacket.__name__:
            self.dtypes.add(args[0].dtype)
        return func(*args, **(kwargs or {}))
