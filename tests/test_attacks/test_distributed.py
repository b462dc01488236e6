"""One experiment on any number of processes: as many images attacked, the same ones, and the same gradient."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import REPO

#: Starts 1, 2 and 4 processes, each of which takes its part of global batches of four pairs.
WORKER = """
import logging, os, sys
from types import SimpleNamespace
import torch
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from helpers import build_model, deterministic, pair_batch, tiny_segformer
from paif_mm.attacks import AdversarialAttackHook
from paif_mm.losses import FusionLossHook

RATIOS, WEIGHTS = (0.25, 0.5, 1.0), (None, 0.5)

def batch_of(rank, world, turn, alike=False):
    batch = pair_batch([(32, 32)] * 4, seed=turn, ignored=False)
    if alike:
        batch = {key: [value[0].clone() for _ in value] for key, value in batch.items()}
    size = 4 // world
    return {key: value[rank * size:(rank + 1) * size] for key, value in batch.items()}

def train(rank, world, folder):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(29620 + world), RANK=str(rank), WORLD_SIZE=str(world))
    torch.distributed.init_process_group('gloo')
    found = {}
    for ratio in RATIOS:
        for weight in WEIGHTS:
            model = deterministic(build_model(tiny_segformer()))
            wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False).train()
            loops = dict.fromkeys(('_train_loop', '_val_loop', '_test_loop'))
            runner = SimpleNamespace(model=wrapped, iter=0, seed=7 + rank, logger=logging.getLogger('test'), **loops)
            attack = dict(type='PGD', eps=8 / 255, steps=2)
            hook = AdversarialAttackHook(attack, ratio=ratio, weight=weight)
            hooks = [FusionLossHook(), hook]
            for each in hooks:
                each.before_run(runner)
                each.before_train(runner)
            passes = []
            model.decode_head.register_forward_pre_hook(lambda *_: passes.append(1))
            optim = OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.1))
            attacked = []
            for turn in range(3):
                runner.iter = turn
                batch = batch_of(rank, world, turn)
                hook.before_train_iter(runner, turn, batch)
                clean = batch.get('clean_inputs', batch['inputs'])
                attacked.append([not torch.equal(a.float(), c.float()) for a, c in zip(batch['inputs'], clean)])
                before = len(passes)
                wrapped.train_step(batch, optim)
                attacked[-1].append(len(passes) - before)
            found[ratio, weight] = dict(attacked=attacked, state=model.state_dict())
    hook = AdversarialAttackHook(dict(type='PGD', eps=8 / 255, steps=1, step_size=0), ratio=1.0)
    batch = batch_of(rank, world, 0, alike=True)
    hook.attack_share(model, batch, 0)
    found['noise'] = [a - c.float() for a, c in zip(batch['inputs'], batch['clean_inputs'])]
    torch.save(found, f'{folder}/{world}_{rank}.pth')
    torch.distributed.destroy_process_group()

if __name__ == '__main__':
    for world in (1, 2, 4):
        mp.start_processes(train, args=(world, sys.argv[1]), nprocs=world, start_method='fork')
"""


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """World size -> what each of its processes saw."""
    folder = tmp_path_factory.mktemp('worlds')
    (folder / 'worker.py').write_text(WORKER)
    path = os.pathsep.join([str(REPO), str(REPO / 'tests')])
    done = subprocess.run(
        [sys.executable, str(folder / 'worker.py'), str(folder)],
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {world: [torch.load(folder / f'{world}_{rank}.pth') for rank in range(world)] for world in (1, 2, 4)}


@pytest.mark.parametrize('weight', [None, 0.5])
@pytest.mark.parametrize(('ratio', 'count'), [(0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_global_batch_is_attacked_alike_and_gives_the_same_steps(found, ratio, count, weight):
    (one,) = (run[ratio, weight] for run in found[1])
    start = one['state']
    for turn in range(3):
        assert sum(one['attacked'][turn][:-1]) == count
    for world in (2, 4):
        runs = [run[ratio, weight] for run in found[world]]
        for turn in range(3):
            places = [attacked for run in runs for attacked in run['attacked'][turn][:-1]]
            assert places == one['attacked'][turn][:-1], 'the same images, however they are divided'
            assert len({run['attacked'][turn][-1] for run in runs}) == 1, 'synchronised batch norms would wait'
        for run in runs:
            for key, value in run['state'].items():
                torch.testing.assert_close(value, start[key], rtol=1e-3, atol=2e-5)


def test_lambda_counts_with_one_image_per_process(found):
    plain, weighted = (found[4][0][0.5, weight]['state'] for weight in (None, 0.5))
    assert any((plain[key] - weighted[key]).abs().max() > 1e-4 for key in plain if plain[key].is_floating_point())


def test_processes_draw_noise_of_their_own(found):
    """All saw one and the same image; each place of the global batch has its own noise, whoever attacks it."""
    (one,) = found[1]
    for world in (2, 4):
        noise = [image for run in found[world] for image in run['noise']]
        assert all(torch.equal(a, b) for a, b in zip(noise, one['noise'], strict=True))
    for i in range(4):
        assert all(not torch.allclose(one['noise'][i], other) for other in one['noise'][:i])
