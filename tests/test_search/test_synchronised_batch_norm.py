"""Synchronised batch norms in a search and in a meta-initialisation, without a GPU.

Outside of a process group ``torch.nn.SyncBatchNorm.forward`` runs its whole Python path on any device, its assertions
included, and only the exchange of statistics is left out (see ``test_distributed.py`` for that). mmengine turns it into
plain batch norm on one process, so models are converted after the Runner has built them.
"""

import pytest
import torch
from helpers import build_model, tiny_segformer
from searching import make_runner
from synchronised import without_dropout
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paif_mm.fusion import FusionNet
from paif_mm.meta_init.aat import functional_loss, loss_and_gradient

SUPERNET = {'type': 'FusionSupernet', 'channels': 4}


def searched(folder, synchronised: bool, checkpointed: bool, **settings):
    model = without_dropout(build_model(tiny_segformer({**SUPERNET, 'checkpoint_candidates': checkpointed})))
    runner = make_runner(folder, model, max_iters=4, arch_interval=2, **settings)
    if synchronised:
        runner.model = nn.SyncBatchNorm.convert_sync_batchnorm(runner.model)
        assert any(isinstance(module, nn.SyncBatchNorm) for module in runner.model.data_preprocessor.modules())
    runner.train()
    return runner


@pytest.mark.parametrize(
    ('bilevel', 'checkpointed'), [('best_response', False), ('best_response', True), ('one_step', False)]
)
def test_a_search_with_synchronised_batch_norms_equals_one_without(tmp_path, bilevel, checkpointed):
    plain = searched(tmp_path / 'plain', False, checkpointed, bilevel=bilevel)
    other = searched(tmp_path / 'sync', True, checkpointed, bilevel=bilevel)
    assert not torch.equal(plain.train_loop.record[0], plain.train_loop.record[-1])
    torch.testing.assert_close(other.train_loop.record[-1], plain.train_loop.record[-1], rtol=1e-3, atol=1e-5)
    for runner in (plain, other):
        norms = [module for module in runner.model.modules() if isinstance(module, _BatchNorm)]
        assert {int(norm.num_batches_tracked) for norm in norms} == {4}, 'architecture steps leave no trace'
    for a, b in zip(plain.model.buffers(), other.model.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('track', [False, True])
def test_meta_initialisation_steps_do_too(track):
    found = []
    for synchronised in (False, True):
        torch.manual_seed(0)
        network = FusionNet(channels=4).train()
        if synchronised:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        weights = dict(network.named_parameters())
        generator = torch.Generator().manual_seed(0)
        pair = torch.rand(2, 2, 1, 16, 20, generator=generator)
        loss = functional_loss(network, tuple(pair), lambda fused: fused.square().mean(), track)
        value, gradient = loss_and_gradient(loss, weights)
        counts = {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, _BatchNorm)}
        assert counts == {int(track)}
        found.append((value, *gradient.values(), *network.buffers()))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
