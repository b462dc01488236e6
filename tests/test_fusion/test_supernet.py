"""The supernet: what it equals, what it holds, what it costs."""

import math

import pytest
import torch

from paif_mm.fusion import CANDIDATES, FusionNet, FusionSupernet, find_supernet, load_genotype

CHOICES = {
    'released': 'paif',
    'one operation': 'all-7-RB',
    'mixed': {'ir': ['CA', '7-RB'], 'vis': ['3-DC', '3-DB'], 'fused': ['3-DB', 'CA']},
}


def supernet(seed=0, channels=4, **kwargs):
    torch.manual_seed(seed)
    network = FusionSupernet(channels=channels, **kwargs).double()
    for buffer in network.buffers():  # statistics that are not those of an untrained network
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return network


def pair(size=(16, 20), n=2):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, n, 1, *size, generator=generator, dtype=torch.float64)


def choose(network, genotype):
    """One-hot alphas."""
    for name, place in network.places().items():
        chain, i = name.split('.')
        place.alpha.data = torch.tensor(
            [1e4 if c == genotype[chain][int(i)] else 0.0 for c in network.candidates]
        ).double()


def derived(network, genotype):
    fixed = FusionNet(genotype=genotype, channels=network.channels).double()
    fixed.init_from_supernet(network)
    return fixed


@pytest.mark.parametrize('choice', CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_one_hot_alphas_make_it_the_fixed_network(choice, mode):
    network, genotype = supernet(), load_genotype(choice)
    choose(network, genotype)
    fixed = derived(network, genotype)
    for net in (network, fixed):
        net.train(mode == 'train')
    torch.testing.assert_close(network(*pair()), fixed(*pair()), rtol=1e-12, atol=1e-12)
    assert network.genotype() == genotype
    assert max(network.entropies().values()) < 1e-9


def test_undecided_alphas_average_the_candidates():
    place = supernet().eval().places()['vis.0']
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    mean = torch.stack([operation(x) for operation in place.candidates.values()]).mean(0)
    torch.testing.assert_close(place(x), mean)


def test_a_new_supernet_is_undecided():
    network = supernet()
    assert len(network.alphas()) == 6
    assert list(network.entropies().values()) == pytest.approx([math.log(4)] * 6)
    assert network.probabilities()['fused.1'] == pytest.approx(dict.fromkeys(CANDIDATES, 0.25))
    assert network.genotype() == load_genotype('all-3-DC'), 'of equals, the first'


def test_entropy_is_that_of_the_softmax():
    network = supernet(candidates=['CA', '3-DC'])
    network.places()['ir.1'].alpha.data = torch.tensor([0.8, 0.2]).log().double()
    assert network.entropies()['ir.1'] == pytest.approx(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))


def test_weights_and_alphas_are_all_parameters_and_disjoint():
    network = supernet()
    ids = [{id(p) for p in part} for part in (network.weights(), network.alphas())]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == {id(p) for p in network.parameters()}


def test_alphas_ask_for_no_gradient_until_a_search_wants_one():
    network = supernet()
    network(*pair()).sum().backward()
    assert all(alpha.grad is None for alpha in network.alphas())
    assert all(weight.grad is not None for weight in network.weights())
    for alpha in network.alphas():
        alpha.requires_grad_(True)
    network(*pair()).sum().backward()
    assert all(alpha.grad.abs().sum() > 0 for alpha in network.alphas())


def test_any_registered_operation_may_be_a_candidate():
    network = supernet(candidates=['TB', 'SA', '5-C'])
    assert network(*pair()).shape == (2, 1, 16, 20)
    choose(network, {'ir': ['TB', 'SA'], 'vis': ['5-C', 'TB'], 'fused': ['SA', 'SA']})
    network.eval()
    torch.testing.assert_close(network(*pair()), derived(network, network.genotype()).eval()(*pair()))


@pytest.mark.parametrize('candidates', [[], ['CA', 'CA'], ['CA', '9-XX']], ids=str)
def test_bad_candidates_are_refused_with_the_known_ones(candidates):
    with pytest.raises(ValueError, match='candidates must be different registered operations.*Known are.*3-DB'):
        FusionSupernet(candidates=candidates)


def test_checkpointed_candidates_change_no_value_no_gradient_and_no_statistic():
    networks = [supernet(), supernet(checkpoint_candidates=True)]
    results = []
    for network in networks:
        for alpha in network.alphas():
            alpha.requires_grad_(True)
        out = network(*pair())
        gradients = torch.autograd.grad(out.square().sum(), list(network.parameters()))
        results.append([out.detach(), *gradients, *network.buffers()])
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)


def test_checkpointed_candidates_keep_fewer_activations():
    kept = []
    for checkpointed in (False, True):
        network, sizes = supernet(checkpoint_candidates=checkpointed), {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = network(*pair((32, 32)))
        kept.append(sum(sizes.values()))
        del out
    assert kept[1] < 0.6 * kept[0]


def test_mixed_precision_is_close_to_single_precision():
    network = supernet(channels=8).float().eval()
    ir, vis = pair().float()
    with torch.autocast('cpu', torch.bfloat16):
        half = network(ir, vis)
    assert 0 < (half.float() - network(ir, vis)).abs().max() < 0.02


def test_the_guided_filter_runs_once_per_modality():
    network = supernet()
    calls = []
    for branch in (network.ir, network.vis):
        branch.decomposition.register_forward_hook(lambda *args: calls.append(1))
    network(*pair())
    assert len(calls) == 2


def test_retraining_starts_from_the_search(tmp_path):
    """From a whole model's checkpoint, with the names that the preprocessor gives the supernet."""
    network = supernet(channels=8)
    state = {f'data_preprocessor.fusion.{key}': value for key, value in network.state_dict().items()}
    torch.save({'state_dict': {**state, 'backbone.x': torch.zeros(1)}}, tmp_path / 'search.pth')
    fixed = FusionNet(channels=8, init_from_supernet=str(tmp_path / 'search.pth')).double()
    assert not torch.equal(fixed.vis.chain[0].conv1.weight, network.vis.chain[0].candidates['3-DB'].conv1.weight)
    fixed.init_weights()
    assert torch.equal(fixed.vis.chain[0].conv1.weight, network.vis.chain[0].candidates['3-DB'].conv1.weight)
    assert torch.equal(fixed.ir.chain[1].norm.running_mean, network.ir.chain[1].candidates['3-DC'].norm.running_mean)
    assert torch.equal(fixed.head[0].weight, network.head[0].weight)


def test_what_can_not_be_inherited_is_named(tmp_path):
    torch.save({'state_dict': FusionNet(channels=4).state_dict()}, tmp_path / 'fixed.pth')
    with pytest.raises(ValueError, match='fixed.pth holds no FusionSupernet'):
        FusionNet(channels=4).init_from_supernet(tmp_path / 'fixed.pth')
    with pytest.raises(ValueError, match="no candidate '3-DB' at ir.0"):
        FusionNet(channels=4).init_from_supernet(FusionSupernet(candidates=['CA', '3-DC'], channels=4))


def test_only_one_supernet_can_be_searched():
    assert isinstance(find_supernet(torch.nn.Sequential(FusionSupernet(channels=4))), FusionSupernet)
    with pytest.raises(TypeError, match='which has 0: set model.data_preprocessor.fusion'):
        find_supernet(FusionNet(channels=4))
