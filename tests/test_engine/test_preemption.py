"""Trainings that are told to stop write a checkpoint, exit together, and go on as if nothing had happened."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import torch
from conftest import environment
from mmengine.hooks import Hook
from torch.utils.data import DataLoader
from trainings import files, train

from paif_mm.engine.preemption import CODES, asked_to_stop, listening, shield_workers


@pytest.fixture(autouse=True)
def own_handlers():
    """Those of the tests: a process that leaves is deaf from then on."""
    before = {number: signal.getsignal(number) for number in CODES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Told(Hook):
    """Signals the training in an iteration, from 0."""

    def __init__(self, iteration, number=signal.SIGUSR1):
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)


class Validated(Hook):
    """Where the training was validated, in iterations done."""

    def __init__(self):
        self.at = []

    def after_val(self, runner):
        self.at.append(runner.iter)


def run(folder, name, hooks=(), resume=False, iters=6, interval=100, by_epoch=False, **more):
    more = {'custom_hooks': list(hooks), **more}
    return train(folder, iters, name, resume=resume, more=more, interval=interval, by_epoch=by_epoch)


def stopped(folder, name, told, **settings) -> int:
    """Train until told to stop; returns the exit code."""
    with pytest.raises(SystemExit) as caught:
        run(folder, name, [told], **settings)
    return caught.value.code


EVERY_THIRD = {'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.1}, 'accumulative_counts': 3}}
EPOCHS = {'by_epoch': True, 'train_cfg': {'type': 'EpochBasedTrainLoop', 'max_epochs': 3}}


@pytest.mark.parametrize(
    ('settings', 'iteration', 'checkpoint', 'last'),
    [
        ({}, 1, 'iter_2.pth', 'iter_6.pth'),
        (EVERY_THIRD, 1, 'iter_3.pth', 'iter_6.pth'),
        (EPOCHS, 2, 'epoch_2.pth', 'epoch_3.pth'),
    ],
    ids=['iterations', 'accumulated gradients', 'epochs'],
)
def test_a_stopped_training_ends_with_the_weights_of_one_that_was_not(tmp_path, settings, iteration, checkpoint, last):
    name = f'stopped {last} {checkpoint}'
    run(tmp_path / 'a', f'{name} a', **settings)
    assert stopped(tmp_path / 'b', f'{name} b', Told(iteration), **settings) == 75
    assert files(tmp_path / 'b') == {checkpoint}, 'which the interval would not have written'
    run(tmp_path / 'b', f'{name} c', resume=True, **settings)
    expected, resumed = (torch.load(tmp_path / x / last, weights_only=False)['state_dict'] for x in 'ab')
    early = torch.load(tmp_path / 'b' / checkpoint, weights_only=False)['state_dict']
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert all(not torch.equal(early[key], resumed[key]) for key in expected)


def test_pools_that_metrics_fork_meanwhile_end_when_they_are_told():
    with listening():
        pool = multiprocessing.get_context('fork').Pool(1)
        (worker,) = pool._pool
        assert pool.apply(os.getpid) == worker.pid
        os.kill(worker.pid, signal.SIGUSR1)  # slurm signals every process of a job
        assert pool.apply_async(os.getpid).get(timeout=20) == worker.pid
        pool.terminate()  # by SIGTERM
        worker.join(timeout=20)
        assert not worker.is_alive()
        for _ in range(10):  # also as they start
            pool = multiprocessing.get_context('fork').Pool(4)
            pool.terminate()
            for worker in pool._pool:
                worker.join(timeout=20)
                assert not worker.is_alive()


def test_the_code_says_who_stopped_it(tmp_path):
    assert stopped(tmp_path / 'a', 'told by TERM', Told(0, signal.SIGTERM)) == 143
    assert [signal.getsignal(number) for number in CODES] == [signal.SIG_IGN] * 2, 'the end is not disturbed'


def test_a_validation_that_was_due_is_made_up_for(tmp_path):
    every_second = {'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 4, 'val_interval': 2}}
    run(tmp_path / 'a', 'due a', [expected := Validated()], iters=4, **every_second)
    assert expected.at == [2, 4]
    for start, iteration, at in ((False, 1, []), (True, 3, [2]), (True, None, [4])):
        hooks = [seen := Validated(), *([Told(iteration)] if iteration else [])]
        if iteration:
            with pytest.raises(SystemExit):
                run(tmp_path / 'b', f'due {iteration}', hooks, resume=start, **every_second)
        else:
            run(tmp_path / 'b', 'due c', hooks, resume=start, **every_second)
        assert seen.at == at


def test_who_can_not_go_on_is_not_kept_from_ending(tmp_path):
    class Looking(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            self.seen = signal.getsignal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    looking = Looking()
    train(tmp_path / 'a', 1, 'plain hook', hook='CheckpointHook', more={'custom_hooks': [looking]})
    assert looking.seen == before
    train(tmp_path / 'b', 1, 'our hook', more={'custom_hooks': [looking]})
    assert looking.seen != before
    assert signal.getsignal(signal.SIGTERM) == before, 'as it was'


def test_nobody_is_asked_outside_of_a_training():
    assert asked_to_stop() == 0
    with listening():
        assert asked_to_stop() == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked_to_stop() == 75, 'the first decides'


def started_worker():
    """Batches of a loader, and its worker, which has the first ready."""
    loader = shield_workers(DataLoader(range(8), num_workers=1, multiprocessing_context='fork'))
    batches = iter(loader)
    assert next(batches) == 0
    return batches, batches._workers[0]


def test_a_worker_outlives_signals_to_all_processes_of_a_job():
    batches, worker = started_worker()
    for number in ('-USR1', '-TERM'):
        subprocess.run(['kill', number, str(worker.pid)], check=True)  # not by its parent
    assert [int(x) for x in batches] == [1, 2, 3, 4, 5, 6, 7]
    worker.join(20)
    assert worker.exitcode == 0


def test_a_worker_ends_when_its_parent_says_so():
    _, worker = started_worker()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


RANK = """
import os, signal, sys, torch
from paif_mm.engine.preemption import asked_to_stop, leave, listening
torch.distributed.init_process_group('gloo')
with listening():
    for i in range(5):
        if i == 2 and torch.distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        code = asked_to_stop()
        if code:
            print(i, flush=True)
            leave(code)
"""


def test_all_processes_stop_at_the_iteration_in_which_one_is_told():
    def start(rank):
        env = {'RANK': str(rank), 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '29617'}
        env = {**environment(), **env}
        return subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', RANK], env=env, stdout=subprocess.PIPE, text=True
        )

    ranks = [start(rank) for rank in range(2)]
    assert [rank.communicate(timeout=120)[0] for rank in ranks] == ['2\n', '2\n']
    assert [rank.returncode for rank in ranks] == [143, 143]
