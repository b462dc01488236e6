import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from paif_mm.fusion.activation import PReLU

SLOPES = [0.25, 2.0, 1e-4, 0.0, -0.3]


def layers(slope: float, dtype=torch.float64) -> tuple[PReLU, nn.PReLU]:
    ours, theirs = PReLU().to(dtype), nn.PReLU().to(dtype)
    for layer in (ours, theirs):
        nn.init.constant_(layer.weight, slope)
    return ours, theirs


def features(dtype=torch.float64) -> torch.Tensor:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=dtype)
    x[0, 0, 0] = 0
    return x


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize('slope', SLOPES)
def test_values_are_those_of_torch(slope, dtype):
    ours, theirs = layers(slope, dtype)
    with torch.no_grad():
        assert torch.equal(ours(features(dtype)), theirs(features(dtype)))
    assert torch.equal(ours(features(dtype) + 0), theirs(features(dtype)))


@pytest.mark.parametrize('frozen', [False, True])
@pytest.mark.parametrize('slope', SLOPES)
def test_first_and_second_derivatives_are_those_of_torch(slope, frozen):
    results = []
    for layer in layers(slope):
        x = features()
        x[x == 0] = 1  # where torch's own second derivatives disagree with its first
        x, layer = x.requires_grad_(), layer.requires_grad_(not frozen)
        wanted = [x] if frozen else [x, layer.weight]
        y = layer(2 * x)
        first = torch.autograd.grad((y.exp() * torch.linspace(-1, 1, 5)).sum(), wanted, create_graph=True)
        second = torch.autograd.grad(sum(g.pow(3).sum() for g in first), wanted)
        plain = torch.autograd.grad((layer(2 * x).exp() * torch.linspace(-1, 1, 5)).sum(), wanted)
        results.append([*first, *second, *plain])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('gradients', [False, True])
def test_a_fresh_input_is_overwritten(gradients):
    layer, x = layers(0.25)[0], features()
    with torch.set_grad_enabled(gradients):
        x = nn.Identity()(x.requires_grad_() * 1)
        assert layer(x).data_ptr() == x.data_ptr()


def test_the_backward_pass_keeps_the_output_alone():
    layer, x, kept = layers(0.25)[0], features().requires_grad_() * 1, []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = layer(x)
    assert {tensor.data_ptr() for tensor in kept} == {y.data_ptr(), layer.weight.data_ptr()}


def test_fake_tensors_have_no_slope_to_be_read():
    with FakeTensorMode() as mode, torch.no_grad():
        assert PReLU()(mode.from_tensor(torch.ones(1, 2, 3, 3))).shape == (1, 2, 3, 3)


def test_checkpoints_are_those_of_torch():
    ours, theirs = layers(0.7)
    assert ours.state_dict() == theirs.state_dict()
