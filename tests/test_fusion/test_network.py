import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from model_converters.paif_release import convert_fusion
from test_fusion.fusion_nets import network, pair
from test_fusion.textbook import textbook_fusion

from paif_mm.fusion import FusionNet
from paif_mm.registry import MODELS, build


@pytest.mark.realdata
@pytest.mark.parametrize('form', ['network', 'textbook'])
def test_output_equals_the_released_network(release_file: Path, form):
    content = np.load(release_file)
    net = FusionNet().eval()
    released = {k.removeprefix('weight/'): torch.from_numpy(content[k]) for k in content if k.startswith('weight/')}
    net.load_state_dict(convert_fusion(released))
    ir, vis, expected = (torch.from_numpy(content[k]) for k in ('ir', 'vis_y', 'fused'))
    with torch.no_grad():
        fused = net(ir, vis) if form == 'network' else textbook_fusion(net, ir, vis)
    torch.testing.assert_close(fused, expected, rtol=0, atol=1e-5)


def values_and_gradients(form, net, ir, vis):
    inputs = [ir.clone().requires_grad_(), vis.clone().requires_grad_(), *net.parameters()]
    fused = form(*inputs[:2])
    torch.manual_seed(2)
    loss = (fused * torch.randn(fused.shape)).sum() / fused.numel() ** 0.5
    return [fused.detach(), *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize('train', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
def test_output_and_gradients_equal_the_textbook(dtype, tolerance, train):
    net, (ir, vis) = network(dtype=dtype).train(train), pair(2, 1, 23, 18, dtype=dtype)
    ours = values_and_gradients(net, net, ir, vis)
    theirs = values_and_gradients(lambda *inputs: textbook_fusion(net, *inputs), net, ir, vis)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= tolerance * max(1, b.abs().max())


@pytest.mark.parametrize('train', [False, True], ids=['eval', 'train'])
def test_second_derivatives_equal_the_textbooks(train):
    """Meta-learning and gradient alignment differentiate gradients towards weights and towards pixels."""
    net, (ir, vis) = network(channels=4).train(train), pair(2, 1, 14, 11)
    wanted, results = [ir.requires_grad_(), vis.requires_grad_(), *net.parameters()], []
    for form in (net, lambda *inputs: textbook_fusion(net, *inputs)):
        first = torch.autograd.grad(form(ir, vis).square().sum(), wanted, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), wanted))
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() <= 1e-7 * max(1, b.abs().max())


def test_changed_weights_and_statistics_count_at_once():
    """What eval mode folds into convolutions is never that of an earlier pass."""
    net, (ir, vis) = network(channels=4), pair(1, 1, 12, 10)
    net(ir, vis)
    with torch.no_grad():
        for value in [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]:
            value.mul_(1.1)
        torch.testing.assert_close(net(ir, vis), textbook_fusion(net, ir, vis))


def test_the_backward_pass_keeps_little_of_what_the_textbooks_keeps():
    net, (ir, vis), kept = network(), pair(1, 1, 24, 32), []
    for form in (net, lambda *inputs: textbook_fusion(net, *inputs)):
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            fused = form(ir, vis)
        kept.append(sum(sizes.values()))
        del fused
    assert kept[0] < 0.6 * kept[1]


def test_gradients_equal_numerical_ones():
    net, (ir, vis) = network(channels=2), pair(1, 1, 6, 5)
    assert torch.autograd.gradcheck(net, (ir.requires_grad_(), vis.requires_grad_()))


def test_input_gradients_need_no_parameter_gradients():
    net, (ir, vis) = network(channels=4), pair(1, 1, 12, 12)
    with_parameters = torch.autograd.grad(net(ir.requires_grad_(), vis.requires_grad_()).sum(), (ir, vis))
    without = torch.autograd.grad(net.requires_grad_(False)(ir, vis).sum(), (ir, vis))
    torch.testing.assert_close(with_parameters, without)


@pytest.mark.parametrize('size', [(1, 1), (1, 7), (5, 3), (9, 9), (37, 53)], ids=str)
def test_any_size_gives_a_contiguous_image_of_that_size(size):
    net, (ir, vis) = network(channels=4), pair(2, 1, *size)
    with torch.no_grad():
        fused = net(ir, vis)
        torch.testing.assert_close(fused, textbook_fusion(net, ir, vis))
    assert fused.shape == ir.shape
    assert fused.is_contiguous()
    assert fused.abs().max() < 1


def test_input_layout_does_not_matter():
    net, (ir, vis) = network(channels=4), pair(2, 1, 12, 10)
    slices = torch.cat([ir, vis], 1)
    with torch.no_grad():
        torch.testing.assert_close(net(slices[:, :1], slices[:, 1:]), net(ir, vis))


def test_a_sample_does_not_depend_on_its_batch():
    net, (ir, vis) = network(channels=8), pair(3, 1, 24, 20)
    with torch.no_grad():
        whole = net(ir, vis)
        single = torch.cat([net(ir[i : i + 1], vis[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(whole, single, rtol=0, atol=1e-12)


def test_parameter_count_is_the_papers():
    assert round(sum(p.numel() for p in FusionNet().parameters()) / 1e6, 2) == 0.26


def test_training_mode_updates_batch_norm_and_reaches_every_parameter():
    net, (ir, vis) = network(channels=4).train(), pair(2, 1, 12, 10)
    before = copy.deepcopy(net.state_dict())
    net(ir, vis).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if 'running' in k or 'num_batches' in k}


@pytest.mark.parametrize('train', [False, True])
def test_autocast_stays_close_to_single_precision(train):
    net, (ir, vis) = network(dtype=torch.float32), pair(2, 1, 32, 32, dtype=torch.float32)
    vis[:, :, 16:] = 0.5  # flat: the guided filter divides by a variance near 0
    net.train(train)
    expected = net(ir, vis)
    with torch.autocast('cpu', torch.bfloat16):
        fused = net(ir, vis)
    fused.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert (fused.float() - expected).abs().max() < 0.02


@pytest.mark.parametrize(
    'shapes',
    [[(1, 3, 8, 8), (1, 3, 8, 8)], [(1, 1, 8, 8), (1, 1, 8, 9)], [(8, 8), (8, 8)], [(1, 1, 8, 8), (2, 1, 8, 8)]],
    ids=str,
)
def test_wrong_inputs_are_named(shapes):
    with pytest.raises(ValueError, match='must be \\(N, 1, H, W\\) luminances of one shape'):
        network(channels=4)(*(torch.rand(shape) for shape in shapes))


def test_network_is_registered_and_initialised_from_a_checkpoint(tmp_path):
    saved = network(channels=4)
    torch.save({'state_dict': saved.state_dict()}, tmp_path / 'n.pth')
    cfg = {
        'type': 'FusionNet',
        'channels': 4,
        'init_cfg': {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'n.pth')},
    }
    built = build(MODELS, cfg)
    built.init_weights()
    torch.testing.assert_close(dict(built.state_dict()), dict(saved.float().state_dict()))


def test_compile_option_changes_no_key_and_survives_copies():
    plain, compiled = network(channels=4), network(channels=4, compile=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    assert copy.deepcopy(compiled).compiled


@pytest.mark.slow
def test_compiled_network_equals_plain_one_in_all_sizes_and_modes():
    plain, compiled = (network(channels=4, dtype=torch.float32, compile=c) for c in (False, True))
    for train, *shape in [(False, 1, 1, 24, 20), (False, 2, 1, 17, 33), (True, 2, 1, 17, 33)]:
        ir, vis = pair(*shape, dtype=torch.float32)
        results = [values_and_gradients(net.train(train), net, ir, vis) for net in (plain, compiled)]
        for a, b in zip(*results, strict=True):
            assert (a - b).norm() <= 1e-4 * b.norm() + 1e-6
    torch.testing.assert_close(dict(plain.state_dict()), dict(compiled.state_dict()))
    for shape in [(1, 1, 24, 20), (1, 1, 26, 31), (1, 1, 33, 17), (2, 1, 33, 17)]:  # without gradients: a few variants
        with torch.no_grad():
            a, b = (net.eval()(*pair(*shape, dtype=torch.float32)) for net in (plain, compiled))
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_missing_compiler_is_explained(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor.config.cpp, 'cxx', ('no-such-compiler',))
    monkeypatch.setattr(torch._inductor.config, 'force_disable_caches', True)
    with pytest.raises(RuntimeError, match=r'needs a C\+\+ compiler'):
        network(channels=2, dtype=torch.float32, compile=True)(*pair(1, 1, 11, 11, dtype=torch.float32))


def test_a_traced_network_holds_torch_s_operators_alone():
    """So that its file runs without this package; traced with gradients, which is torch.jit.trace's default."""
    network = FusionNet(channels=4).eval()
    traced = torch.jit.trace(network, (torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)))
    assert 'PythonOp' not in str(traced.inlined_graph)
    assert '^' not in str(traced.inlined_graph)  # how a graph shows functions of Python
    ir, vis = torch.rand(2, 2, 1, 16, 16)
    torch.testing.assert_close(traced(ir, vis), network(ir, vis))
