"""Meta-gradients against hand-derived and numerical ones, in float64."""

import pytest
import torch

from paif_mm.fusion import FusionNet
from paif_mm.losses import FusionLoss
from paif_mm.meta_init import Scene, adapt, functional_loss, hessian_product, meta_gradient


def weight(value: float) -> dict:
    return {'w': torch.tensor(value, dtype=torch.float64)}


def squared(x: float, y: float):
    """1/2 (w x - y)^2 of a scalar linear model."""
    return lambda weights: 0.5 * (weights['w'] * x - y) ** 2


@pytest.mark.parametrize('steps', [1, 3])
def test_meta_gradient_of_a_scalar_linear_model_by_hand(steps):
    """One inner step maps w to (1 - lr x^2) w + lr x y, so k of them have the derivative (1 - lr x^2)^k."""
    w, lr, (x, y), (u, v) = 0.7, 0.1, (2.0, 1.0), (1.5, -0.5)
    adapted = w
    for _ in range(steps):
        adapted = adapted - lr * x * (adapted * x - y)
    outer = u * (adapted * u - v)
    scene = Scene([squared(x, y)] * steps, squared(u, v))
    first, losses = meta_gradient(weight(w), [scene], lr)
    second, _ = meta_gradient(weight(w), [scene], lr, second_order=True)
    assert losses[0].item() == pytest.approx(0.5 * (adapted * u - v) ** 2)
    assert first['w'].item() == pytest.approx(outer)
    assert second['w'].item() == pytest.approx(outer * (1 - lr * x**2) ** steps)


def test_inner_steps_are_gradient_descent():
    path = adapt(weight(1.0), [squared(1, 0), squared(2, 1)], lr=0.1)
    assert [step['w'].item() for step in path] == pytest.approx([1.0, 0.9, 0.9 - 0.1 * 2 * (0.9 * 2 - 1)])


def test_scenes_are_summed():
    a, b = Scene([squared(2, 1)], squared(1, 0)), Scene([squared(1, -1)] * 2, squared(3, 1))
    for order in (False, True):
        both = meta_gradient(weight(0.3), [a, b], 0.05, order)[0]['w']
        parts = [meta_gradient(weight(0.3), [scene], 0.05, order)[0]['w'] for scene in (a, b)]
        torch.testing.assert_close(both, sum(parts))


@pytest.fixture
def network():
    """A small fusion network with batch norms, attacked and clean images, and the fusion loss."""
    torch.manual_seed(0)
    net = FusionNet(genotype='all-3-DC', channels=2).double().train()
    images = torch.rand(4, 4, 2, 1, 12, 12, dtype=torch.float64)  # scene batches of (attacked, clean) pairs
    loss = FusionLoss()

    def criterion(clean):
        # as the fusion loss, which works in fp32, in float64
        return lambda fused: (fused - clean.mean(0)).square().mean() + (fused.diff() - clean[0].diff()).square().mean()

    losses = [functional_loss(net, batch[:2], criterion(batch[2:])) for batch in images]
    return net, losses, loss, images


def test_second_order_is_the_derivative_of_the_whole_meta_objective(network):
    net, (a, b, c, d), _, _ = network
    weights = {name: value.detach() for name, value in net.named_parameters()}
    scenes, lr = [Scene([a, b], c), Scene([b], d)], 0.05

    def objective(weights):
        return sum(scene.val(adapt(weights, scene.train, lr)[-1]) for scene in scenes).item()

    gradient, _ = meta_gradient(weights, scenes, lr, second_order=True)
    first, _ = meta_gradient(weights, scenes, lr)
    generator, h, gaps = torch.Generator().manual_seed(1), 1e-6, []
    for _ in range(4):
        direction = {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in weights.items()}
        shifted = [objective({k: v + s * h * direction[k] for k, v in weights.items()}) for s in (1, -1)]
        numerical = (shifted[0] - shifted[1]) / (2 * h)
        slopes = [sum((g[k] * direction[k]).sum().item() for k in g) for g in (gradient, first)]
        assert slopes[0] == pytest.approx(numerical, rel=1e-4, abs=1e-7)
        gaps.append(abs(slopes[1] - numerical))
    assert max(gaps) > 1e-3, 'first order must differ here, or the test says nothing'


def test_zero_inner_steps_is_joint_training(network):
    net, (a, b, *_), _, _ = network
    weights = {name: value.detach() for name, value in net.named_parameters()}
    joint = torch.autograd.grad(
        a(dict(net.named_parameters())) + b(dict(net.named_parameters())), list(net.parameters())
    )
    for order in (False, True):
        gradient, _ = meta_gradient(weights, [Scene([], a), Scene([], b)], 0.1, order)
        for value, expected in zip(gradient.values(), joint, strict=True):
            torch.testing.assert_close(value, expected)


def test_weights_and_statistics_stay_as_they_were(network):
    net, (a, b, *_), _, _ = network
    before = {key: value.clone() for key, value in net.state_dict().items()}
    meta_gradient(dict(net.named_parameters()), [Scene([a, a], b)], 0.1, second_order=True)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_real_fusion_loss_can_be_adapted_to(network):
    net, _, loss, images = network
    net = net.float()
    attacked, clean = images[0].float().chunk(2)
    objective = functional_loss(net, attacked, lambda fused: loss(fused, *clean))
    weights = {name: value.detach() for name, value in net.named_parameters()}
    path = adapt(weights, [objective] * 5, lr=0.05)
    assert objective(path[-1]) < objective(path[0])


def test_hessian_product_of_a_quadratic_and_of_a_linear_loss():
    matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    weights, vector = {'w': torch.tensor([0.5, -1.0])}, {'w': torch.tensor([1.0, 2.0])}
    product = hessian_product(lambda p: 0.5 * p['w'] @ matrix @ p['w'], weights, vector)
    torch.testing.assert_close(product['w'], matrix @ vector['w'])
    assert torch.equal(hessian_product(lambda p: p['w'].sum(), weights, vector)['w'], torch.zeros(2))
