"""A forward pass without a trace, for whatever keeps statistics.

``torch.nn.SyncBatchNorm`` runs its whole Python path, its assertions included, on a CPU outside of a process group; the
exchange between processes is tested in ``tests/test_search/test_synchronised_batch_norm.py``.
"""

import pytest
import torch
from torch import nn

from paif_mm.fusion import untracked_statistics


class ForeignNorm(nn.Module):
    """Counts and normalises as mmcv's own synchronised batch norm does, which is none of torch's."""

    def __init__(self, features):
        super().__init__()
        self.register_buffer('running_mean', torch.zeros(features))
        self.register_buffer('num_batches_tracked', torch.tensor(0))
        self.register_buffer('absent', None)

    def forward(self, x):
        mean = x.mean((0, 2, 3))
        self.num_batches_tracked += 1
        self.running_mean = 0.9 * self.running_mean + 0.1 * mean.detach()
        return x - mean[:, None, None]


NORMS = {
    'plain': lambda: nn.BatchNorm2d(3),
    'cumulative': lambda: nn.BatchNorm2d(3, momentum=None),
    'synchronised': lambda: nn.SyncBatchNorm(3),
    'cumulative and synchronised': lambda: nn.SyncBatchNorm(3, momentum=None),
    'without statistics': lambda: nn.SyncBatchNorm(3, track_running_stats=False),
    'instance': lambda: nn.InstanceNorm2d(3, track_running_stats=True),
    'foreign': lambda: ForeignNorm(3),
}


@pytest.fixture(params=NORMS)
def network(request):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), NORMS[request.param]())
    network(torch.randn(2, 3, 4, 4))
    return network


def buffers(network):
    return [buffer.clone() for buffer in network.buffers()]


def test_values_and_gradients_are_those_of_any_forward_pass_and_no_buffer_changes(network):
    x = torch.randn(2, 3, 4, 4)
    before, identities = buffers(network), [id(buffer) for buffer in network.buffers()]
    with untracked_statistics(network):
        inside = [network(x), network(x)]
        gradient = torch.autograd.grad(inside[1].square().sum(), network[0].weight)[0]
    assert [id(buffer) for buffer in network.buffers()] == identities, 'what a wrapper broadcasts stays what it was'
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))
    outside = network(x)
    assert torch.equal(inside[0], outside)
    assert torch.equal(inside[1], outside)
    assert torch.equal(gradient, torch.autograd.grad(outside.square().sum(), network[0].weight)[0])
    assert not before or any(not torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))


def test_a_frozen_norm_uses_its_statistics(network):
    network.eval()
    x = torch.randn(2, 3, 4, 4)
    with untracked_statistics(network):
        assert torch.equal(network(x), network(x))
        inside = network(x)
    assert torch.equal(inside, network.eval()(x)) or isinstance(network[1], ForeignNorm)


def test_a_batch_that_is_not_finite_spoils_no_statistics(network):
    with untracked_statistics(network):
        network(torch.full((2, 3, 4, 4), float('nan')))
    assert all(torch.isfinite(buffer).all() for buffer in network.buffers())


def test_statistics_come_back_after_an_exception(network):
    before = buffers(network)
    with pytest.raises(RuntimeError, match='no batch'), untracked_statistics(network):
        network(torch.randn(2, 3, 4, 4))
        raise RuntimeError('no batch')
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))
