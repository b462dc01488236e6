import pytest
import torch
from test_fusion import textbook

from paif_mm.fusion.guided_filter import GuidedDecomposition, box_count, box_sum, residual_guide

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
