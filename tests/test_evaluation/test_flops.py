"""FLOPs of the mathematics, counted by hand, whichever kernels compute it."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from paif_mm.evaluation.flops import count_flops
from paif_mm.fusion import FusionNet

TOKENS, OTHERS, WIDTH = 10, 3, 8


class Attention(nn.Module):
    """Queries (N, 10, 8) on ``others`` keys, with two heads."""

    def __init__(self, others: int = TOKENS, weights: bool = False):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.others, self.weights = others, weights

    def forward(self, x):
        keys = x if self.others == TOKENS else x[:, : self.others]
        return self.attention(x, keys, keys, need_weights=self.weights)[0]


class Scaled(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x[:, None], x[:, None, :OTHERS], x[:, None, :OTHERS])


def attention_flops(queries, keys) -> int:
    """Two sequences: three projections, scores, weighted values, the last projection."""
    projections = 2 * WIDTH * WIDTH * (2 * queries + 2 * keys)
    return 2 * (projections + 2 * 2 * queries * keys * WIDTH)


def layer() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)


IMAGE, SEQUENCE = (1, 4, 12, 12), (2, TOKENS, WIDTH)
KNOWN = {
    'linear': (lambda: nn.Linear(WIDTH, 5), SEQUENCE, 2 * 2 * TOKENS * WIDTH * 5),
    'attention': (Attention, SEQUENCE, attention_flops(TOKENS, TOKENS)),
    'attention with weights': (lambda: Attention(weights=True), SEQUENCE, attention_flops(TOKENS, TOKENS)),
    'attention on fewer keys': (lambda: Attention(OTHERS), SEQUENCE, attention_flops(TOKENS, OTHERS)),
    'scaled products': (Scaled, SEQUENCE, 2 * 2 * 2 * TOKENS * OTHERS * WIDTH),
    'encoder layer': (layer, SEQUENCE, attention_flops(TOKENS, TOKENS) + 2 * 2 * TOKENS * 2 * WIDTH * 16),
    'convolution': (lambda: nn.Conv2d(4, 6, 3, padding=1), IMAGE, 2 * 144 * 9 * 4 * 6),
    'strided': (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), IMAGE, 2 * 36 * 9 * 4 * 6),
    'grouped': (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), IMAGE, 2 * 144 * 9 * 2 * 6),
    'dilated depthwise': (lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), IMAGE, 2 * 144 * 9 * 4),
    'transposed': (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2), IMAGE, 2 * 144 * 4 * 4 * 6),
    'pooling': (lambda: nn.AvgPool2d(3), IMAGE, 0),
}

SETTINGS = {
    'without gradients': torch.no_grad,
    'with gradients': torch.enable_grad,
    'inference': torch.inference_mode,
    'flash': lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION),
}


@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('case', KNOWN)
def test_the_count_is_that_by_hand_in_every_setting(case, setting):
    make, shape, expected = KNOWN[case]
    network, x = make().eval(), torch.rand(shape)
    with SETTINGS[setting](), count_flops() as counter:
        network(x)
    assert counter.get_total_flops() == expected
    if len(shape) == 4:
        with SETTINGS[setting](), count_flops() as counter:
            network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        assert counter.get_total_flops() == expected


def count_on(device: str, network: nn.Module, *shapes) -> int:
    """The count on a device that need not exist."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        tensors = [*network.named_parameters(), *network.named_buffers()]
        state = {name: mode.from_tensor(value.detach()).to(device) for name, value in tensors}
        inputs = tuple(torch.rand(shape, device=device) for shape in shapes)
        with torch.no_grad(), count_flops() as counter:
            functional_call(network, state, inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize('case', KNOWN)
def test_the_count_is_the_same_on_cpu_and_cuda(case):
    make, shape, expected = KNOWN[case]
    network = make().eval()
    assert count_on('cuda', network, shape) == count_on('cpu', network, shape) == expected


def test_a_fusion_networks_count_does_not_depend_on_how_its_box_sums_are_computed():
    """A CPU computes them as convolutions, which made 8 % of the count."""
    network, shapes = FusionNet(channels=4).eval(), [(1, 1, 24, 32)] * 2
    on_cpu, on_cuda = count_on('cpu', network, *shapes), count_on('cuda', network, *shapes)
    with torch.no_grad(), count_flops() as counter:
        network(*(torch.rand(shape) for shape in shapes))
    assert counter.get_total_flops() == on_cpu == on_cuda > 0


def test_kernels_are_chosen_as_before_afterwards():
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()
    with contextlib.suppress(RuntimeError), count_flops():
        raise RuntimeError
    assert before == (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())
