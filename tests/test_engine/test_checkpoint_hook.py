"""Random states that survive a checkpoint."""

import random
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from paif_mm.compat import load_checkpoint_file
from paif_mm.engine import ResumableCheckpointHook
from paif_mm.randomness import random_state, set_random_state


def draw() -> tuple:
    return random.random(), np.random.rand(), np.random.randn(), torch.rand(()).item(), random.gauss(0, 1)


def test_random_states_survive_a_weights_only_checkpoint(tmp_path):
    draw()
    torch.save({'states': random_state()}, tmp_path / 'x.pth')
    expected = [draw() for _ in range(3)]
    set_random_state(load_checkpoint_file(tmp_path / 'x.pth')['states'])
    assert [draw() for _ in range(3)] == expected


def test_validation_leaves_no_trace_in_the_random_states():
    hook = ResumableCheckpointHook(by_epoch=False)
    state = random_state()
    expected = draw()
    set_random_state(state)
    hook.before_val(SimpleNamespace(model=nn.Identity(), hooks=[]))
    draw()
    hook.after_val(None)
    assert draw() == expected


def test_states_are_restored_after_the_skipped_batches():
    """The loop draws the seen batches again, which uses random numbers; the next batch must not notice."""
    hook = ResumableCheckpointHook(by_epoch=False)
    state = random_state()
    expected = draw()

    def batches():
        while True:
            yield draw()

    runner = SimpleNamespace(_resume=True, train_loop=SimpleNamespace(dataloader_iterator=batches(), iter=3))
    hook.after_load_checkpoint(runner, {'meta': {'random_states': [state]}})
    hook.before_train_epoch(runner)
    drawn = [next(runner.train_loop.dataloader_iterator) for _ in range(4)]
    assert drawn[3] == expected
    assert expected not in drawn[:3]


def test_plain_loading_restores_nothing():
    hook = ResumableCheckpointHook(by_epoch=False)
    loop = SimpleNamespace(dataloader_iterator=iter(()), iter=0)
    runner = SimpleNamespace(_resume=False, train_loop=loop)
    iterator = loop.dataloader_iterator
    hook.after_load_checkpoint(runner, {'meta': {'random_states': [random_state()]}})
    hook.before_train_epoch(runner)
    assert loop.dataloader_iterator is iterator
