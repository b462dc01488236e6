"""How many shapes the networks see in a training and in a test: each is tuned (cuDNN) or compiled anew."""

from collections import Counter

import pytest
import torch
import torch._dynamo
from helpers import build_model, pair_batch, tiny_segformer
from mmengine.runner import Runner
from test_tools.commands import config_file

from paif_mm.attacks import PGD
from paif_mm.engine.launch import read_config
from paif_mm.engine.runner import QuietRunner
from paif_mm.fusion import network

ITERATIONS = 6
TEST_PIPELINE = [
    {'type': 'paif_mm.LoadPairFromFile'},
    {'type': 'RandomResize', 'scale': (96, 64), 'ratio_range': (0.6, 1.5), 'keep_ratio': True},
    {'type': 'paif_mm.LoadPairAnnotations'},
    {'type': 'PackSegInputs'},
]


def make_runner(tmp_path, synthetic_root, compiled: bool):
    """Of a small adversarial training on pairs that are often smaller than the crop, and differ in the test."""
    config = read_config(str(config_file(tmp_path, synthetic_root, 'sat')))
    config.train_dataloader.dataset.pipeline[2].ratio_range = (0.4, 1.1)
    config.train_dataloader.batch_size = 4
    config.val_dataloader.dataset.pipeline = config.test_dataloader.dataset.pipeline = TEST_PIPELINE
    config.train_cfg.update(max_iters=ITERATIONS, val_interval=ITERATIONS)
    config.model.data_preprocessor.fusion.compile = compiled
    config.update(work_dir=str(tmp_path / 'run'), launcher='none', log_level='ERROR')
    config.default_hooks.checkpoint.interval = ITERATIONS
    return QuietRunner.from_cfg(config)


@pytest.fixture
def graphs(monkeypatch):
    """Compiles by ``torch.compile`` without its code generator, which takes minutes; counts what it compiles."""
    compiled, original = [], torch.compile

    def backend(graph, inputs):
        compiled.append(torch.is_grad_enabled())
        return graph.forward

    monkeypatch.setattr(torch, 'compile', lambda fn, **settings: original(fn, backend=backend, **settings))
    network._compiled_fuse.cache_clear()
    torch._dynamo.reset()
    yield compiled
    network._compiled_fuse.cache_clear()
    torch._dynamo.reset()


def watch(runner: Runner) -> dict[str, Counter]:
    """Shapes of what the model, its fusion network and its backbone are given, with mode and gradients."""
    seen = {'pairs': Counter(), 'N': Counter(), 'T': Counter()}
    model = runner.model

    def note(name, module, x):
        seen[name][(module.training, torch.is_grad_enabled(), *x.shape)] += 1

    model.data_preprocessor.register_forward_pre_hook(
        lambda module, args: [note('pairs', module, image) for image in args[0]['inputs']] and None
    )
    model.data_preprocessor.fusion.register_forward_pre_hook(lambda module, args: note('N', module, args[0]))
    model.backbone.register_forward_pre_hook(lambda module, args: note('T', module, args[0]))
    return seen


SHAPES = {
    (True, True, 4, 1, 48, 64): ITERATIONS,
    (False, True, 2, 1, 48, 64): 3 * ITERATIONS,  # PGD-3 on half of the batch, the last iterate kept
}


def test_a_training_shows_the_networks_one_size(tmp_path, synthetic_root):
    runner = make_runner(tmp_path, synthetic_root, False)
    runner.val_loop.run = dict
    seen = watch(runner)
    runner.train()
    assert len({key[2:] for key in seen['pairs']}) >= 5, 'the pairs are of many'
    assert seen['N'] == SHAPES
    assert {key[-2:] for key in seen['T']} == {(48, 64)}


@pytest.mark.parametrize('objective', ['TaskLoss', 'FusionObjective'])
def test_an_attack_in_training_shows_what_the_training_shows(objective):
    model, batch = build_model(tiny_segformer()), pair_batch([(32, 40), (32, 48)])
    model.data_preprocessor.task.size, model.data_preprocessor.task.size_divisor = (40, 56), None
    seen = []
    model.data_preprocessor.fusion.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape)))
    attack = PGD(eps=8 / 255, steps=1, keep='last', objective={'type': objective})
    attack(model, batch, training=True)
    assert seen == [(2, 1, 40, 56)]
    seen.clear()
    attack(model, batch, index=[1])
    assert seen == [(1, 1, 32, 48)], 'in evaluation a pair is as it is'


@pytest.mark.slow
def test_compiling_ends_after_a_few_shapes(tmp_path, synthetic_root, graphs):
    """In a test, whose images are fused as they are, after one of one size and a few of all sizes."""
    runner = make_runner(tmp_path, synthetic_root, True)
    runner.val_loop.run = dict
    seen = watch(runner)
    runner.train()
    assert seen['N'] == SHAPES
    assert graphs == [True, True]

    seen = watch(runner)
    resize = runner.test_loop.dataloader.dataset.pipeline.transforms[1]
    for shift in range(4):  # of 4 pairs each
        resize.ratio_range = (0.6 + shift / 10, 1.5 + shift / 10)
        runner.test()
        compiled = len(graphs)
    assert len({key for key in seen['N'] if not key[1]}) > 8, "more than torch's limit of variants"
    assert graphs[2:].count(True) == 0
    assert compiled - 2 <= 5, 'some for small sizes, which are convolved in other ways'
