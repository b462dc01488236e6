"""The losses of published networks: known answers, and their place in the hook."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import build_model, pair_batch, tiny_segformer
from pytorch_msssim import ssim

from paif_mm.fusion import DIDFuse, FusionNet, SDNet
from paif_mm.losses import (
    DIDFuseLoss,
    FusionLossHook,
    SDNetLoss,
    SeAFusionLoss,
    TarDALLoss,
    U2FusionLoss,
    saliency_weights,
)
from paif_mm.losses.fusion import similarity_map
from paif_mm.registry import MODELS, build

SHAPE = (1, 1, 16, 20)


def constant(value: float) -> torch.Tensor:
    return torch.full(SHAPE, value)


def images(n: int = 2, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.rand(3, n, 1, 16, 20, generator=torch.Generator().manual_seed(seed)))


def similarity(a, b) -> torch.Tensor:
    """SSIM (N,) by pytorch-msssim."""
    return ssim(a, b, data_range=1, size_average=False)


class Information(U2FusionLoss):
    """U2Fusion's loss whose features are the image itself."""

    def __init__(self, mse_weight: float = 20.0, constant: float = 1.0):
        torch.nn.Module.__init__(self)
        self.mse_weight, self.constant = mse_weight, constant

    def features(self, image):
        return [image, 3 * image]


def convolved(image, kernel, border: str = 'constant') -> torch.Tensor:
    """With a 3x3 kernel, as a convolution."""
    return F.conv2d(F.pad(image, [1] * 4, mode=border), torch.tensor(kernel, dtype=image.dtype)[None, None])


SOBEL_X = [[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]
SOBEL_Y = [[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]
LAPLACIAN = [[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]
GAUSSIAN = [[0.0947, 0.1183, 0.0947], [0.1183, 0.1478, 0.1183], [0.0947, 0.1183, 0.0947]]
NEIGHBOURS = [[1 / 8, 1 / 8, 1 / 8], [1 / 8, -1, 1 / 8], [1 / 8, 1 / 8, 1 / 8]]


def test_seafusion_wants_the_brighter_source_and_the_larger_gradient():
    fused, ir, vis = images()
    slopes = [convolved(image, SOBEL_X).abs() + convolved(image, SOBEL_Y).abs() for image in (fused, ir, vis)]
    intensity = (fused - torch.maximum(ir, vis)).abs().mean((1, 2, 3))
    gradient = (slopes[0] - torch.maximum(slopes[1], slopes[2])).abs().mean((1, 2, 3))
    torch.testing.assert_close(SeAFusionLoss()(fused, ir, vis, 'none'), intensity + 10 * gradient)
    torch.testing.assert_close(SeAFusionLoss(2.0)(fused, ir, vis), (intensity + 2 * gradient).mean())
    assert SeAFusionLoss()(constant(0.7), constant(0.4), constant(0.7)).item() == 0
    black = torch.zeros(SHAPE)
    assert SeAFusionLoss(0.0)(constant(0.5), constant(0.2), constant(0.6)).item() == pytest.approx(0.1)
    # against black: inside nothing, beyond the border black, too: the 3 * 0.5 + 0.5 of edges, twice 2 of corners
    lines, corners = 2 * (14 + 18), 4
    expected = (lines * 4 * 0.5 + corners * 2 * 3 * 0.5) / (16 * 20)
    assert (SeAFusionLoss(1.0)(constant(0.5), black, black) - 0.5).item() == pytest.approx(expected)


def test_sdnet_follows_the_source_of_larger_gradients():
    fused, ir, vis = images()
    s, i, v = (2 * image - 1 for image in (fused, ir, vis))
    slope_i, slope_v = (convolved(convolved(image, GAUSSIAN), LAPLACIAN).abs() for image in (i, v))
    wins = (slope_v > slope_i).float()
    to_ir, to_vis = ((convolved(s, LAPLACIAN) - convolved(image, LAPLACIAN)).square() for image in (i, v))
    expected = (s - i).square() + 0.5 * (s - v).square() + 80 * ((1 - wins) * to_ir + wins * to_vis)
    loss = SDNetLoss(decomposition_weight=0)
    torch.testing.assert_close(loss(fused, ir, vis, 'none'), expected.mean((1, 2, 3)))
    assert loss(ir, ir, ir).item() == 0


def test_sdnet_wants_its_sources_back():
    fused, ir, vis = images()
    network = SDNet(decomposition=True)
    back = network.decompose(fused)
    expected = sum((2 * (a - b)).square().mean((1, 2, 3)) for a, b in zip(back, (ir, vis), strict=True))
    with_part, without = SDNetLoss(decomposition_weight=3.0), SDNetLoss(decomposition_weight=0)
    found = with_part(fused, ir, vis, 'none', network=network) - without(fused, ir, vis, 'none')
    torch.testing.assert_close(found, 3 * expected, rtol=1e-4, atol=1e-5)


def test_didfuse_reconstructs_each_source():
    fused, ir, vis = images()
    network = DIDFuse().eval()
    (ir_again, ir_base, ir_detail), (vis_again, vis_base, vis_detail) = (
        network.reconstruct(image, name) for image, name in ((ir, 'ir'), (vis, 'vis'))
    )
    expected = (ir_base - vis_base).abs().mean((1, 2, 3)).tanh()
    expected = expected - 0.5 * (ir_detail - vis_detail).abs().mean((1, 2, 3)).tanh()
    for again, image in ((ir_again, ir), (vis_again, vis)):
        expected = expected + 2 * (again - image).square().mean((1, 2, 3)) + 5 * (1 - similarity(again, image))
    for kernel in (SOBEL_X, SOBEL_Y):
        slopes = (convolved(image, kernel, 'replicate') / 8 for image in (vis, vis_again))
        expected = expected + 5 * torch.sub(*slopes).abs().mean((1, 2, 3))
    torch.testing.assert_close(DIDFuseLoss()(fused, ir, vis, 'none', network=network), expected, rtol=1e-5, atol=1e-5)


def test_u2fusion_weighs_by_information():
    fused, ir, vis = images()
    sources, information = (ir, vis), []
    for source in sources:
        information.append(sum(convolved(x, NEIGHBOURS).square().mean((1, 2, 3)) for x in (source, 3 * source)) / 2)
    loss = Information(constant=0.5)
    torch.testing.assert_close(loss.information(ir), information[0])
    shares = (torch.stack(information) / 0.5).softmax(0)
    assert not torch.allclose(shares, torch.tensor(0.5))
    expected = sum(
        share * (1 - similarity(fused, source) + 20 * (fused - source).square().mean((1, 2, 3)))
        for share, source in zip(shares, sources, strict=True)
    )
    torch.testing.assert_close(loss(fused, ir, vis, 'none'), expected, atol=1e-5, rtol=0)
    assert loss(ir, ir, ir).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_u2fusion_looks_at_vgg16_before_each_pooling(tmp_path):
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    layers = make_layers(cfgs['D'], batch_norm=False).eval()
    torch.save({f'features.{key}': value for key, value in layers.state_dict().items()}, tmp_path / 'vgg16.pth')
    loss = U2FusionLoss(vgg=str(tmp_path / 'vgg16.pth'))
    (image, *_) = images(1)
    features, x, seen = loss.features(image), None, []
    red, green, blue = (255 * F.interpolate(image, (224, 224)) - offset for offset in (123.68, 116.779, 103.939))
    x = torch.cat([red, green, blue], 1)
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, torch.nn.MaxPool2d):
                seen.append(x.clone())
            x = layer(x)
    torch.testing.assert_close(features, seen)
    assert [x.shape[1] for x in features] == [64, 128, 256, 512, 512]
    assert not any(p.requires_grad for p in loss.parameters())


LOSSES = [SeAFusionLoss(), SDNetLoss(), TarDALLoss(), DIDFuseLoss(), Information()]


@pytest.mark.parametrize('loss', LOSSES, ids=lambda loss: type(loss).__name__)
def test_each_is_a_mean_of_images_under_autocast_too(loss):
    fused, ir, vis = images()
    network = {'SDNetLoss': SDNet(decomposition=True), 'DIDFuseLoss': DIDFuse().eval()}.get(type(loss).__name__)
    extra = {'network': network} if loss.needs_network else {}
    values = loss(fused, ir, vis, reduction='none', **extra)
    alone = torch.cat([loss(*(x[i : i + 1] for x in (fused, ir, vis)), reduction='none', **extra) for i in range(2)])
    torch.testing.assert_close(values, alone)
    torch.testing.assert_close(loss(fused, ir, vis, **extra), values.mean())
    with torch.autocast('cpu', torch.bfloat16):
        low = loss(fused.bfloat16(), ir, vis, reduction='none', **extra)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, values, rtol=0.1, atol=0.02)


def test_tardal_weighs_by_saliency():
    fused, ir, vis = images()
    weights = saliency_weights(ir, vis)
    expected = [20 * (w * (fused - x).abs()).mean((1, 2, 3)) for w, x in zip(weights, (ir, vis), strict=True)]
    torch.testing.assert_close(TarDALLoss(ssim_weight=0)(fused, ir, vis, 'none'), sum(expected))
    plain = constant(0.3)  # sources without salience: half each, whose SSIM is that of the whole image
    noisy = fused[:1]
    expected = (1 - similarity(noisy, plain)) / 2
    torch.testing.assert_close(TarDALLoss(l1_weight=0)(noisy, plain, plain, 'none'), expected, atol=1e-5, rtol=0)
    assert TarDALLoss()(plain, plain, plain).item() == pytest.approx(0, abs=1e-6)


def test_the_map_of_ssim_has_its_mean():
    a, b, _ = images()
    torch.testing.assert_close(similarity_map(a, b).mean((1, 2, 3)), similarity(a, b), atol=1e-5, rtol=0)
    assert similarity_map(a, b).shape == (2, 1, 6, 10)


def step(network: dict, loss: dict):
    """One training step of a model with a published loss: the model, and the gradients of its fusion network."""
    model = build_model(tiny_segformer(network)).train()
    hook = FusionLossHook(loss=loss, weight=1.0)
    hook.before_train(SimpleNamespace(model=model))
    losses = model(**model.data_preprocessor(pair_batch(), True), mode='loss')
    assert losses['loss_fusion'].isfinite() and losses['loss_fusion'] > 0
    losses['loss_fusion'].backward()
    return model, {name: p.grad for name, p in model.data_preprocessor.fusion.named_parameters()}


@pytest.mark.parametrize(
    ('network', 'loss'),
    [
        ({'type': 'FusionNet', 'channels': 4}, {'type': 'SeAFusionLoss'}),
        ({'type': 'FusionNet', 'channels': 4}, {'type': 'TarDALLoss'}),
        ({'type': 'FusionNet', 'channels': 4}, {'type': 'SDNetLoss', 'decomposition_weight': 0.0}),
        ({'type': 'SDNet', 'decomposition': True}, {'type': 'SDNetLoss'}),
        ({'type': 'DIDFuse'}, {'type': 'DIDFuseLoss'}),
        ({'type': 'DIDFuse', 'variant': 'paif'}, {'type': 'DIDFuseLoss'}),
    ],
    ids=lambda config: ' '.join(map(str, config.values())),
)
def test_the_hook_trains_every_weight_of_the_network_by_it(network, loss):
    model, gradients = step(network, loss)
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
    assert all(p.grad is None for p in model.backbone.parameters())


@pytest.mark.parametrize(
    ('network', 'loss', 'message'),
    [
        (FusionNet(channels=4), SDNetLoss(), 'SDNetLoss is for an SDNet.* not for FusionNet: use FusionLoss'),
        (SDNet(), SDNetLoss(), 'built without the part that decomposes: set decomposition=True'),
        (SDNet(), DIDFuseLoss(), 'DIDFuseLoss is for a DIDFuse .* not for SDNet'),
        (None, DIDFuseLoss(), 'DIDFuseLoss is for a DIDFuse in a FusionLossHook, there is none'),
    ],
    ids=['other', 'half', 'other of two', 'none'],
)
def test_a_loss_of_another_network_is_refused(network, loss, message):
    with pytest.raises(ValueError, match=message):
        loss(*images(), network=network)


def test_bad_inputs_are_named(tmp_path):
    fused, ir, vis = images()
    with pytest.raises(ValueError, match='luminances of one shape'):
        SeAFusionLoss()(fused, ir, vis[..., :5])
    with pytest.raises(ValueError, match='reduction must be one of mean, none'):
        SeAFusionLoss()(fused, ir, vis, 'sum')
    with pytest.raises(ValueError, match='at least 11 x 11'):
        TarDALLoss()(*(x[..., :5] for x in (fused, ir, vis)))
    torch.save({'features.0.weight': torch.zeros(64, 3, 3, 3)}, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='w.pth does not fit Sequential: 25 missing'):
        build(MODELS, {'type': 'U2FusionLoss', 'vgg': str(tmp_path / 'w.pth')})
