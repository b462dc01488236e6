import functools
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from test_fusion import textbook

from paif_mm.fusion import FusionBaseline, FusionNet, FusionSupernet, build_operation
from paif_mm.fusion.operations import conv_of_concatenation
from paif_mm.registry import OPERATIONS

SEARCHED = ['3-DB', '3-DC', '7-RB', 'CA']
NAMES = [f'{k}-{kind}' for kind in ('C', 'DC', 'RB', 'DB') for k in (3, 5, 7)] + ['SA', 'CA', 'TB']
FORMULAS = {
    '3-DB': textbook.dense_block,
    '3-DC': textbook.dilated_conv,
    '7-RB': textbook.residual_block,
    'CA': textbook.channel_attention,
}


def test_the_papers_operations_are_registered():
    assert set(NAMES) <= set(OPERATIONS.module_dict)


@pytest.mark.parametrize('name', SEARCHED)
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
    split, whole = conv_of_concatenation(layer, [*parts]), layer(torch.cat(parts, 1))
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


@pytest.mark.parametrize('kind', ['C', 'DC', 'RB', 'DB'])
@pytest.mark.parametrize('kernel_size', [3, 5, 7])
def test_the_number_in_a_name_is_the_kernel_size(kind, kernel_size):
    operation = build_operation(f'{kernel_size}-{kind}', channels=4)
    first = next(m for m in operation.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.kernel_size == (kernel_size, kernel_size)


def test_spatial_attention_equals_its_formula():
    operation = build_operation('SA', channels=4).double()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    first = operation.conv1(x)
    y = operation.conv2(F.prelu(first, operation.act.weight))
    gate = F.conv2d(torch.stack([y.max(1).values, y.mean(1)], 1), operation.gate.weight, padding=3).sigmoid()
    torch.testing.assert_close(operation(x), F.prelu(first + gate * y, operation.act.weight))


def test_transformer_attention_equals_the_quadratic_form():
    """softmax(Q) (softmax(K)^T V) = (softmax(Q) softmax(K)^T) V, head by head."""
    operation = build_operation('TB', channels=16).double()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    q, k, v = operation.qkv(x).flatten(2).transpose(1, 2).chunk(3, -1)  # (N, HW, C) each
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        attention = q[..., part].softmax(-1) @ k[..., part].softmax(1).transpose(1, 2)  # (N, HW, HW)
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 15, dtype=torch.float64))
        heads.append(attention @ v[..., part])
    expected = torch.cat(heads, -1).transpose(1, 2).reshape(2, 16, 3, 5)
    torch.testing.assert_close(operation.attention(x), expected)


def test_transformer_block_sees_the_whole_image_and_fits_the_papers_size():
    operation = build_operation('TB', channels=8).eval()
    x = torch.zeros(1, 8, 480, 640)
    with torch.no_grad():
        before = operation(x)
        x[0, :, 0, 0] = torch.arange(8.0)
        assert (operation(x)[0, :, -1, -1] - before[0, :, -1, -1]).abs().max() > 0
    assert build_operation('TB', channels=12).heads == 1


class Overwriting(torch.nn.Module):
    """Of a user: ``first`` works on the operation's input."""

    def __init__(self, channels: int, first: bool, inplace: bool = True):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 1, bias=False)
        act = torch.nn.ReLU(inplace=inplace)
        self.layers = torch.nn.Sequential(act, self.conv) if first else torch.nn.Sequential(self.conv, act)

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def of_a_user():
    """Registered operations: what is right, and what is not."""
    forms = {'overwrites': {'first': True}, 'right': {'first': True, 'inplace': False}, 'inside': {'first': False}}
    for name, settings in forms.items():
        OPERATIONS.register_module(name=name, module=functools.partial(Overwriting, **settings))
    yield
    for name in forms:
        del OPERATIONS.module_dict[name]


FORMS = {
    'fixed': lambda name: FusionNet({chain: [name, '3-C'] for chain in ('ir', 'vis', 'fused')}, channels=4),
    'second of a chain': lambda name: FusionNet({c: ['3-C', name] for c in ('ir', 'vis', 'fused')}, channels=4),
    'supernet': lambda name: FusionSupernet([name, '3-C'], channels=4),
    'checkpoints': lambda name: FusionSupernet(['3-C', name], channels=4, checkpoint_candidates=True),
    'baseline': lambda name: FusionBaseline(name, 'SUM', depth=2, channels=4),
    'one encoder': lambda name: FusionBaseline(name, 'DC', depth=2, channels=4),
}


@pytest.mark.parametrize('form', FORMS)
def test_an_operation_that_overwrites_its_input_is_named(of_a_user, form):
    ir, vis = torch.rand(2, 2, 1, 9, 8)
    for refused in (nullcontext(), torch.inference_mode(), torch.device('meta')):
        with (
            refused,
            pytest.raises(ValueError, match=r'^operation overwrites overwrites its input, .*\(inplace=False\)$'),
        ):
            FORMS[form]('overwrites')
    for name in ('right', 'inside'):
        net = FORMS[form](name)
        assert all(module.training for module in net.modules())
        fused = net(ir, vis)
        assert torch.isfinite(fused).all()
        fused.sum().backward()


def test_modes_of_a_user_s_operation_stay_as_they_were_built():
    class Frozen(Overwriting):
        def __init__(self, channels):
            super().__init__(channels, first=False)
            self.conv.eval()

    OPERATIONS.register_module(name='frozen', module=Frozen)
    try:
        operation = build_operation('frozen', 4)
    finally:
        del OPERATIONS.module_dict['frozen']
    assert operation.training
    assert not operation.conv.training
