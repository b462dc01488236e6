import pytest
import torch
import torch.nn.functional as F
from test_fusion import textbook

from paif_mm.fusion import build_operation
from paif_mm.fusion.operations import conv_of_concatenation
from paif_mm.registry import OPERATIONS

NAMES = ['3-DB', '3-DC', '7-RB', 'CA']
FORMULAS = {
    '3-DB': textbook.dense_block,
    '3-DC': textbook.dilated_conv,
    '7-RB': textbook.residual_block,
    'CA': textbook.channel_attention,
}


@pytest.mark.parametrize('name', NAMES)
def test_operation_equals_its_formula(name):
    torch.manual_seed(0)
    operation = build_operation(name, channels=6).double().eval()
    p = {f'op.{k}': v for k, v in operation.state_dict().items()}
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(operation(x), FORMULAS[name](p, 'op', x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(1, 1), (2, 5), (8, 8)], ids=str)
def test_operation_keeps_shape_and_has_no_convolution_bias(name, size):
    operation = OPERATIONS.build({'type': name, 'channels': 4}).eval()
    assert operation(torch.randn(3, 4, *size)).shape == (3, 4, *size)
    biases = [m.bias for m in operation.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv1d)]
    assert biases == [None] * len(biases)


@pytest.mark.parametrize('bias', [False, True])
def test_split_convolution_equals_convolution_of_concatenation(bias):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(9, 5, 3, padding=2, dilation=2, bias=bias).double()
    parts = [torch.randn(2, c, 8, 7, dtype=torch.float64, requires_grad=True) for c in (4, 2, 3)]
    split, whole = conv_of_concatenation(layer, *parts), layer(torch.cat(parts, 1))
    torch.testing.assert_close(split, whole)
    inputs = [*parts, *layer.parameters()]
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (split, whole)), strict=True):
        torch.testing.assert_close(a, b)


def test_channel_attention_skips_from_its_first_convolution():
    operation = build_operation('CA', channels=4).double()
    operation.conv2.weight.data.zero_()  # nothing but the skip is left
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(operation(x), F.prelu(operation.conv1(x), operation.act.weight))


@pytest.mark.parametrize('name', NAMES)
def test_parameter_gradients_in_bfloat16_are_close_to_single_precision(name):
    torch.manual_seed(0)
    operation = build_operation(name, channels=32).eval()
    x = torch.randn(2, 32, 32, 32).contiguous(memory_format=torch.channels_last)
    gradients = []
    for enabled in (False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            y = operation(x).float()
        scratch = [torch.full((2**i,), float('nan')) for i in range(6, 20) for _ in range(4)]
        del scratch  # reading memory before writing it will show
        gradients.append(torch.autograd.grad(y.square().sum(), list(operation.parameters())))
    for single, half in zip(*gradients, strict=True):
        assert (single - half).norm() < 0.05 * single.norm()
