import pytest
import torch
from test_fusion import textbook
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from paif_mm.fusion import guided_filter
from paif_mm.fusion.guided_filter import GuidedDecomposition, box_count, box_sum, residual_guide


class Operators(TorchDispatchMode):
    """Notes every operator that runs inside, with its arguments."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func.overloadpacket.__name__, args))
        return func(*args, **(kwargs or {}))


PARTS = {'LF_1': 0, 'LF_2': 1, 'HF_1': 2, 'HF_2': 3}


def selecting(part: str, channels: int, dtype: torch.dtype) -> GuidedDecomposition:
    """A decomposition whose projection picks one of the four parts."""
    layer = GuidedDecomposition(channels).to(dtype)
    block = [torch.zeros(channels, channels)] * 4
    block[PARTS[part]] = torch.eye(channels)
    layer.project.weight.data = torch.cat(block, 1)[:, :, None, None].to(dtype)
    layer.project.bias.data.zero_()
    return layer


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('size', [(13, 11), (5, 20), (1, 1), (3, 2)], ids=str)
def test_box_mean_equals_loop_over_windows(size, dtype):
    x = torch.rand(2, 3, *size, dtype=dtype)
    mean = box_sum(x, 4) / box_count(x, 4)
    for i in range(size[0]):
        for j in range(size[1]):
            window = x[:, :, max(0, i - 4) : i + 5, max(0, j - 4) : j + 5]
            torch.testing.assert_close(mean[:, :, i, j], window.mean((2, 3)))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
def test_box_sum_and_gradient_are_the_same_by_convolution_and_by_pooling(layout, monkeypatch):
    x = torch.rand(2, 3, 12, 7).contiguous(memory_format=layout).requires_grad_()
    results = []
    for switch in (True, False):
        monkeypatch.setattr(guided_filter, 'SUMS_AS_CONVOLUTIONS', switch)
        y = box_sum(x, 4)
        results.append([y, *torch.autograd.grad((y * torch.arange(7)).sum(), x)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_sums_on_cuda_are_columns_then_rows_and_no_convolution():
    """torch runs convolutions on CUDA in TF32 by default, which would spoil variances; 18 values are read, not 81."""
    with FakeTensorMode(), Operators() as seen, torch.no_grad():
        x, weight, bias = (torch.rand(shape, device='cuda') for shape in [(1, 4, 12, 10), (4, 16, 1, 1), (4,)])
        guided_filter.guided_projection(x, weight, bias, (1e-3, 1e-4), radius=4)
    sums = [args for name, args in seen.calls if name == 'avg_pool2d']
    assert {tuple(args[1]) for args in sums} == {(9, 1), (1, 9)}
    assert not [name for name, _ in seen.calls if 'convolution' in name]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_constant_features_are_all_low_frequency(dtype):
    x = torch.tensor([0.2, 0.9, -0.4], dtype=dtype)[None, :, None, None].expand(2, 3, 15, 12)
    tolerance = {'rtol': 0, 'atol': 1e-4 if dtype == torch.float32 else 1e-12}
    for part in PARTS:
        expected = x if part.startswith('LF') else torch.zeros_like(x)
        torch.testing.assert_close(selecting(part, 3, dtype)(x), expected, **tolerance)


def test_each_part_equals_the_textbook_filter():
    x = torch.randn(2, 4, 17, 14, dtype=torch.float64)
    low = {
        '1': textbook.guided_filter(residual_guide(x), x, 1e-3),
        '2': textbook.guided_filter(residual_guide(x), x, 1e-4),
    }
    for part in PARTS:
        expected = low[part[-1]] if part.startswith('LF') else x - low[part[-1]]
        torch.testing.assert_close(selecting(part, 4, torch.float64)(x), expected, rtol=1e-9, atol=1e-9)


def test_low_frequency_is_linear_in_the_guide_inside_a_window():
    """Features affine in their guide are reproduced up to eps: the filter keeps the guide's edges."""
    ramp = torch.linspace(0, 30, 20, dtype=torch.float64).expand(1, 1, 20, 20)
    x = torch.cat([ramp, -ramp], 1)  # guide = 2 * ramp, and x = +-guide / 2
    assert (selecting('HF_2', 2, torch.float64)(x)).abs().max() < 1e-3


def test_gradients_equal_numerical_ones():
    torch.manual_seed(0)
    layer = GuidedDecomposition(2).double()
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_second_derivatives_towards_features_and_weights_equal_the_textbooks():
    layer = GuidedDecomposition(3).double()
    p = {f'd.project.{k}': v for k, v in layer.project.named_parameters()}
    x = torch.randn(2, 3, 9, 12, dtype=torch.float64, requires_grad=True)
    wanted, results = [x, *layer.parameters()], []
    for form in (layer, lambda x: textbook.decomposition(p, 'd', x)):
        first = torch.autograd.grad(form(x).pow(2).sum(), wanted, create_graph=True)
        results.append([*first, *torch.autograd.grad(sum(g.pow(2).sum() for g in first), wanted)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_autocast_around_the_backward_pass_changes_no_gradient():
    layer, x = GuidedDecomposition(4), torch.randn(1, 4, 16, 16, requires_grad=True)
    expected = torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()])
    with torch.autocast('cpu', torch.bfloat16):
        inside = torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()])
    for a, b in zip(inside, expected, strict=True):
        assert torch.equal(a, b)


def test_single_precision_is_closer_to_double_than_the_textbook():
    torch.manual_seed(0)
    layer = GuidedDecomposition(8)
    p = {f'd.project.{k}': v for k, v in layer.project.named_parameters()}
    coarse = torch.rand(1, 8, 4, 5)
    x = torch.nn.functional.interpolate(coarse, (160, 200), mode='bilinear') + 0.02 * torch.rand(1, 8, 160, 200)
    with torch.no_grad():
        truth = textbook.decomposition({k: v.double() for k, v in p.items()}, 'd', x.double())
        ours, theirs = ((y - truth).abs().max() for y in (layer(x), textbook.decomposition(p, 'd', x)))
    assert ours < theirs


def test_autocast_leaves_the_filter_in_single_precision():
    torch.manual_seed(0)
    layer = GuidedDecomposition(4)
    x = torch.randn(1, 4, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(layer(x), layer(x.float()))
        assert layer(x).dtype == torch.float32
        assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x.bfloat16()).float(), layer(x.bfloat16().float()), rtol=1e-2, atol=1e-2)


def test_what_follows_may_overwrite_the_result():
    layer, x = GuidedDecomposition(3).double(), torch.randn(1, 3, 7, 8, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(layer(x).relu().square().sum(), [x, *layer.parameters()])
    found = torch.autograd.grad(layer(x).relu_().square().sum(), [x, *layer.parameters()])
    torch.testing.assert_close(found, expected)
