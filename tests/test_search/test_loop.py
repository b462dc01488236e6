"""Alg. 1 step by step."""

import copy
import json

import pytest
import torch
from helpers import build_model, deterministic, generators_untouched, tiny_segformer
from searching import Pairs, collate, loader, make_runner

from paif_mm.attacks import AdversarialAttackHook
from paif_mm.engine.places import batches_from
from paif_mm.fusion import FusionNet, FusionSupernet
from paif_mm.search import ExpectedCost
from paif_mm.search.efficiency import flops_per_pixel
from paif_mm.search.loop import BatchLoss, halve

ATTACK = {
    'type': 'paif_mm.AdversarialAttackHook',
    'attack': {'type': 'PGD', 'eps': 2 / 255, 'steps': 1, 'keep': 'last'},
    'ratio': 0.5,
}


def built_loop(runner):
    """The loop before it runs, with the optimizers that ``runner.train`` would give it."""
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.call_hook('before_train')
    runner.model.train()
    return runner.train_loop


def everything_but_alphas(model):
    return {key: value.clone() for key, value in model.state_dict().items() if not key.endswith('.alpha')}


def test_alphas_move_after_the_warm_start_at_every_interval_and_nowhere_else(tmp_path):
    runner = make_runner(tmp_path, max_iters=9, warmup_iters=3, arch_interval=2)
    runner.train()
    record = runner.train_loop.record
    moved = [i for i in range(9) if not torch.equal(record[i], record[i + 1])]
    assert moved == [4, 6, 8]  # the second, fourth and sixth iteration after the warm start


def test_weights_are_trained_in_every_iteration(tmp_path):
    runner = make_runner(tmp_path, max_iters=1, warmup_iters=1)
    before = everything_but_alphas(runner.model)
    runner.train()
    after = runner.model.state_dict()
    changed = [not torch.equal(before[key], after[key]) for key in before if before[key].is_floating_point()]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize('bilevel', ['first_order', 'one_step', 'best_response'])
@pytest.mark.parametrize('lower_level', ['fusion', 'model'])
def test_an_architecture_step_moves_the_alphas_alone(tmp_path, bilevel, lower_level):
    loop = built_loop(make_runner(tmp_path, max_iters=1, bilevel=bilevel, lower_level=lower_level))
    before = everything_but_alphas(loop.model)
    alphas = [alpha.clone() for alpha in loop.supernet.alphas()]
    next(loop.arch_iterator)  # a loader draws its seed when it starts
    state = torch.get_rng_state()
    loss = loop.architecture_step(next(loop.dataloader_iterator))
    assert loss > 0
    after = loop.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), 'weights and batch-norm statistics'
    assert all(not torch.equal(a, b) for a, b in zip(alphas, loop.supernet.alphas(), strict=True))
    assert all(parameter.grad is None for parameter in loop.model.parameters())
    assert not any(alpha.requires_grad for alpha in loop.supernet.alphas())
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training for module in loop.model.modules())


def test_the_alphas_descend_the_validation_loss_of_the_second_loader(tmp_path):
    model = deterministic(build_model(tiny_segformer({'type': 'FusionSupernet', 'channels': 4})))
    loop = built_loop(make_runner(tmp_path, model=model, max_iters=1, bilevel='first_order'))
    train_batch, val_batch = next(loop.dataloader_iterator), next(iter(loop.arch_dataloader))
    alphas = loop.supernet.alphas()
    for alpha in alphas:
        alpha.requires_grad_(True)
    expected = torch.autograd.grad(BatchLoss(loop.model, val_batch)(), alphas)
    before = [alpha.detach().clone() for alpha in alphas]
    loop.architecture_step(train_batch)
    for alpha, start, gradient in zip(alphas, before, expected, strict=True):
        torch.testing.assert_close(alpha.detach(), start - 1.0 * gradient)


def test_lower_levels_differ(tmp_path):
    results = []
    for lower_level in ('fusion', 'model'):
        loop = built_loop(make_runner(tmp_path / lower_level, max_iters=1, lower_level=lower_level))
        loop.architecture_step(next(loop.dataloader_iterator))
        results.append(torch.stack(loop.supernet.alphas()))
    assert not torch.allclose(*results, rtol=1e-3, atol=1e-6)


def test_the_unrolled_step_is_the_learning_rate_unless_given(tmp_path):
    loop = built_loop(make_runner(tmp_path / 'a', max_iters=1, bilevel='one_step'))
    assert loop._method().keywords == {'unroll_step': 0.01}
    loop = built_loop(make_runner(tmp_path / 'b', max_iters=1, bilevel='one_step', unroll_step=0.5))
    assert loop._method().keywords == {'unroll_step': 0.5}


@pytest.mark.parametrize(('upper_level', 'attacked'), [('clean', [False]), ('mixed', [True])])
def test_weight_steps_see_attacked_pairs_and_architecture_steps_clean_ones(
    tmp_path, monkeypatch, upper_level, attacked
):
    seen = {'train': [], 'val': []}
    original = BatchLoss.__init__

    def spy(self, model, data_batch, *extra):
        seen['val' if extra else 'train'].append('clean_inputs' in data_batch)
        original(self, model, data_batch, *extra)

    monkeypatch.setattr(BatchLoss, '__init__', spy)
    make_runner(tmp_path, max_iters=1, arch_interval=1, upper_level=upper_level, hooks=[ATTACK]).train()
    assert seen == {'train': [True], 'val': attacked}


def test_the_attack_waits_for_the_end_of_the_warm_start(tmp_path, monkeypatch):
    attacked = []
    monkeypatch.setattr('paif_mm.attacks.hook.replace', lambda model, batch, result: attacked.append(runner.iter))
    runner = make_runner(tmp_path, max_iters=4, warmup_iters=2, hooks=[{**ATTACK, 'begin': 2}])
    runner.train()
    assert attacked == [2, 3]


def test_dropout_draws_the_same_numbers_in_every_evaluation_of_one_step(tmp_path):
    loop = built_loop(make_runner(tmp_path, max_iters=1))
    loss = BatchLoss(loop.model, next(loop.dataloader_iterator))
    first = loss()
    assert torch.equal(first, loss())
    torch.rand(1)
    assert not torch.equal(first, loss())


@pytest.mark.parametrize(
    'paramwise',
    [None, {'custom_keys': {'fusion': {'lr_mult': 2.0}}, 'norm_decay_mult': 0.0}],
    ids=['plain', 'paramwise'],
)
def test_the_weight_optimizer_never_holds_an_alpha(tmp_path, paramwise):
    optim = {
        'constructor': 'paif_mm.HDSOptimWrapperConstructor',
        'weights': {'optimizer': {'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.5}, 'paramwise_cfg': paramwise},
        'alphas': {'optimizer': {'type': 'Adam', 'lr': 1.0}},
    }
    loop = built_loop(make_runner(tmp_path, optim=optim, max_iters=1))
    wrappers = loop.runner.optim_wrapper
    groups = {name: wrapper.optimizer.param_groups for name, wrapper in wrappers.items()}
    held = {name: {id(p) for group in groups[name] for p in group['params']} for name in groups}
    alphas = {id(alpha) for alpha in loop.supernet.alphas()}
    assert held['alphas'] == alphas
    assert held['weights'] == {id(p) for p in loop.model.parameters()} - alphas


BAD_OPTIM = {
    'no parts': {'constructor': 'paif_mm.HDSOptimWrapperConstructor', 'optimizer': {'type': 'SGD', 'lr': 1}},
    'paramwise outside': {
        'constructor': 'paif_mm.HDSOptimWrapperConstructor',
        'weights': {},
        'alphas': {},
        'paramwise_cfg': {'a': 1},
    },
}


@pytest.mark.parametrize('optim', BAD_OPTIM.values(), ids=BAD_OPTIM)
def test_other_shapes_of_optim_wrapper_are_refused(tmp_path, optim):
    with pytest.raises(ValueError, match='two parts, weights=.*and alphas='):
        make_runner(tmp_path, optim=optim, max_iters=1).train()


def test_an_ordinary_optimizer_is_refused(tmp_path):
    with pytest.raises(TypeError, match='HDSOptimWrapperConstructor'):
        make_runner(tmp_path, optim={'optimizer': {'type': 'SGD', 'lr': 0.1}}, max_iters=1).train()


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ({'bilevel': 'darts'}, 'bilevel must be one of first_order, one_step, best_response'),
        ({'lower_level': 'T'}, 'lower_level must be one of fusion, model'),
        ({'upper_level': 'attacked'}, 'upper_level must be one of clean, mixed'),
        ({'arch_interval': 0}, 'arch_interval must be at least 1'),
        ({'efficiency_measure': 'seconds'}, 'efficiency_measure must be one of flops, params'),
        ({'arch_dataloader': None}, 'give HDSTrainLoop an arch_dataloader'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_bad_settings_are_named(tmp_path, setting, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_runner(tmp_path, max_iters=1, **setting).train()


# ------------------------------------------------------------------------------------------------------------- data


def test_by_default_the_training_set_is_split_in_two_seeded_halves():
    config = {'batch_size': 2, 'dataset': Pairs(9)}
    halves = [half['dataset'] for half in halve(config, seed=0)]
    assert [len(half) for half in halves] == [5, 4]
    indices = [set(half.indices) for half in halves]
    assert not indices[0] & indices[1]
    assert indices[0] | indices[1] == set(range(9))
    assert halves[0].metainfo == {'classes': tuple('abcdefghi')}
    assert set(halve(config, seed=0)[0]['dataset'].indices) == indices[0]
    assert set(halve(config, seed=1)[0]['dataset'].indices) != indices[0]
    assert halve(config, seed=0)[1]['batch_size'] == 2


def test_the_split_reaches_both_loaders(tmp_path):
    config = {
        'batch_size': 2,
        'num_workers': 0,
        'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
        'dataset': Pairs(9),
    }
    loop = built_loop(make_runner(tmp_path, train=config, max_iters=1, arch_dataloader=None))
    indices = [set(x.dataset.indices) for x in (loop.dataloader, loop.arch_dataloader)]
    assert not indices[0] & indices[1]
    assert len(next(loop.arch_iterator)['inputs']) == 2


def test_the_second_loader_wraps_around_for_ever():
    batches = batches_from(loader(count=3, batch_size=2, seed=1), 0)
    pairs = Pairs(3, seed=1)
    drawn = [batch['inputs'] for batch, _ in zip(batches, range(6), strict=False)]
    assert [len(batch) for batch in drawn] == [2, 1, 2, 1, 2, 1]
    assert torch.equal(drawn[4][0], pairs[0]['inputs'])


def test_a_loader_without_batches_is_no_endless_loop():
    with pytest.raises(ValueError, match='data loader has no batch'):
        next(batches_from(loader(count=1, batch_size=2, drop_last=True), 0))


# ------------------------------------------------------------------------------------------------------- efficiency


def test_expected_cost_counts_what_was_chosen():
    network = FusionSupernet(channels=4, candidates=['3-DB', 'CA'])
    cost = ExpectedCost(network, 'params')
    assert cost().item() == pytest.approx(1)
    for alpha in network.alphas():
        alpha.data = torch.tensor([0.0, 1e4])
    attention, dense = (
        sum(p.numel() for p in network.places()['ir.0'].candidates[n].parameters()) for n in ('CA', '3-DB')
    )
    assert cost().item() == pytest.approx(attention / ((attention + dense) / 2))


def test_flops_are_those_of_the_convolutions():
    operation = FusionSupernet(channels=4).places()['ir.0'].candidates['3-DB'].train()
    assert flops_per_pixel(operation, 4) == 2 * 9 * 4 * 4 * (1 + 2 + 3)
    assert operation.training


def test_the_efficiency_term_favours_cheap_operations(tmp_path):
    shares = []
    for weight in (0.0, 100.0):
        runner = make_runner(tmp_path / str(weight), max_iters=2, arch_interval=1, efficiency_weight=weight)
        runner.train()
        shares.append(runner.train_loop.supernet.probabilities())
    assert all(shares[1][place]['3-DC'] > 0.9 for place in shares[1]), 'the cheapest of the four'
    assert all(shares[0][place]['3-DC'] < 0.9 for place in shares[0])


# -------------------------------------------------------------------------------------------------------- what is left


def test_a_search_leaves_genotype_history_and_pictures(tmp_path):
    runner = make_runner(
        tmp_path, max_iters=4, arch_interval=1, hooks=[{'type': 'paif_mm.ArchitectureHook', 'interval': 2}]
    )
    runner.train()
    supernet = runner.train_loop.supernet
    content = json.loads((tmp_path / 'genotype.json').read_text())
    assert content['candidates'] == ['3-DC', '7-RB', '3-DB', 'CA']
    assert content['iteration'] == 4
    assert content['alphas']['vis.1'] == supernet.places()['vis.1'].alpha.tolist()
    assert content['entropies'] == supernet.entropies()
    assert len(content['config_hash']) == 16
    assert FusionNet(genotype=tmp_path / 'genotype.json', channels=4).genotype == supernet.genotype()
    lines = [json.loads(line) for line in (tmp_path / 'architecture.jsonl').read_text().splitlines()]
    assert [line['iter'] for line in lines] == [0, 2, 4]
    assert lines[-1]['probabilities'] == supernet.probabilities()
    for name in ('genotype.png', 'architecture.png'):
        assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')


def test_the_history_is_cut_back_to_the_resumed_iteration(tmp_path):
    from paif_mm.search import ArchitectureHook

    hook = ArchitectureHook()
    hook.folder = tmp_path
    hook.history.write_text('{"iter": 50}\n{"iter": 100}\n{"iter": 150}\n{"it')
    hook._keep_history(until=100)
    assert hook.history.read_text() == '{"iter": 50}\n{"iter": 100}\n'
    hook._keep_history(until=0)
    assert hook.history.read_text() == ''


def test_batches_survive_an_architecture_step(tmp_path):
    loop = built_loop(make_runner(tmp_path, max_iters=1))
    batch = collate([Pairs()[0], Pairs()[1]])
    before = copy.deepcopy(batch)
    loop.architecture_step(batch)
    assert all(torch.equal(a, b) for a, b in zip(batch['inputs'], before['inputs'], strict=True))
    labels = [[sample.gt_sem_seg.data for sample in x['data_samples']] for x in (batch, before)]
    assert all(torch.equal(a, b) for a, b in zip(*labels, strict=True))


@pytest.mark.parametrize('bilevel', ['first_order', 'one_step', 'best_response'])
def test_an_architecture_step_leaves_the_global_generators_alone(tmp_path, bilevel):
    loop = built_loop(make_runner(tmp_path, max_iters=1, bilevel=bilevel))
    next(loop.arch_iterator)  # a loader draws its seed when it starts
    batch = next(loop.dataloader_iterator)
    with generators_untouched():
        loop.architecture_step(batch)


def test_mixed_architecture_batches_are_attacked_by_their_own_count(tmp_path):
    """A quarter of batches of two is every other batch of its stream, however architecture steps fall."""
    hook = {'type': 'paif_mm.AdversarialAttackHook', 'ratio': 0.25, 'attack': {'type': 'PGD', 'eps': 0.1, 'steps': 1}}
    runner = make_runner(tmp_path, hooks=[hook], max_iters=8, arch_interval=2, upper_level='mixed')
    seen = {'train': [], 'architecture': []}
    attack = next(hook for hook in runner.hooks if isinstance(hook, AdversarialAttackHook))
    replace = attack.attack_share

    def attack_share(model, batch, turn, stream='train'):
        replace(model, batch, turn, stream)
        clean = batch.get('clean_inputs', batch['inputs'])
        changed = [not torch.equal(a.float(), c.float()) for a, c in zip(batch['inputs'], clean, strict=True)]
        seen[stream].append(sum(changed))

    attack.attack_share = attack_share
    runner.train()
    assert seen == {'train': [0, 1] * 4, 'architecture': [0, 1] * 2}
