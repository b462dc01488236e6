"""One experiment on any number of processes: as many images attacked, the same ones, and the same gradient."""

import subprocess
import sys

import pytest
import torch
from conftest import REPO, environment

#: Starts 1, 2 and 4 processes, each of which takes its part of global batches of four pairs.
WORKER = """
import logging, os, sys
from types import SimpleNamespace
import torch
import torch.multiprocessing as mp
from mmengine.dataset import DefaultSampler
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from helpers import build_model, deterministic, pair_batch, tiny_segformer
from paif_mm.attacks import AdversarialAttackHook, OverfittingMonitorHook
from paif_mm.losses import FusionLossHook

RATIOS, LOSSES = (0.25, 0.5, 1.0), (dict(), dict(weight=0.5), dict(trades=2.0), dict(align=0.3))

ALL = pair_batch([(32, 32)] * 12, ignored=False)

def dealt(rank, world, turn):
    # the samples that the sampler gives this process for its part of a batch of four
    order, size = list(DefaultSampler(range(12), shuffle=True, seed=3)), 4 // world
    return order[turn * size:(turn + 1) * size]

def batch_of(ids):
    return {key: [value[i].clone() for i in ids] for key, value in ALL.items()}

def train(rank, world, folder):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(29620 + world), RANK=str(rank), WORLD_SIZE=str(world))
    torch.distributed.init_process_group('gloo')
    found = {}
    for ratio in RATIOS:
        for losses in LOSSES:
            model = deterministic(build_model(tiny_segformer()))
            wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False).train()
            loops = dict.fromkeys(('_train_loop', '_val_loop', '_test_loop'))
            runner = SimpleNamespace(model=wrapped, iter=0, seed=7 + rank, logger=logging.getLogger('test'), **loops)
            attack = dict(type='PGD', eps=8 / 255, steps=2)
            hook = AdversarialAttackHook(attack, ratio=ratio, **losses)
            runner.optim_wrapper = optim = OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.1))
            hooks = [FusionLossHook(), hook]
            for each in hooks:
                each.before_run(runner)
                each.before_train(runner)
            passes = []
            model.backbone.register_forward_pre_hook(lambda module, _: passes.append(1) if module.training else None)
            attacked = []
            for turn in range(3):
                runner.iter = turn
                ids = dealt(rank, world, turn)
                batch = batch_of(ids)
                hook.before_train_iter(runner, turn, batch)
                clean = batch.get('clean_inputs', batch['inputs'])
                changed = [not torch.equal(a.float(), c.float()) for a, c in zip(batch['inputs'], clean)]
                if 'twins' in batch:
                    changed = [place in batch['twins'].places for place in range(len(ids))]
                attacked.append({'samples': dict(zip(ids, changed))})
                before = len(passes)
                wrapped.train_step(batch, optim)
                attacked[-1]['passes'] = len(passes) - before
            found[(ratio, *losses)] = dict(attacked=attacked, state=model.state_dict())
    hook = AdversarialAttackHook(dict(type='PGD', eps=8 / 255, steps=1, step_size=0), ratio=1.0)
    ids = dealt(rank, world, 0)
    batch = batch_of([0] * len(ids))
    hook.attack_share(model, batch, 0)
    noise = [a - c.float() for a, c in zip(batch['inputs'], batch['clean_inputs'])]
    found['noise'] = dict(zip(ids, noise))
    monitor = OverfittingMonitorHook(attack)
    pairs = SimpleNamespace(clean=[], images=[])
    monitor._attacks = lambda: [lambda *args, **kwargs: pairs] * 2
    monitor._batch, monitor._seed, monitor._harm = dict(inputs=[]), 0, lambda *args: float(rank)
    found['harms'] = monitor._harms(SimpleNamespace(model=model))
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
    done = subprocess.run(
        [sys.executable, str(folder / 'worker.py'), str(folder)],
        env=environment(REPO / 'tests'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {world: [torch.load(folder / f'{world}_{rank}.pth') for rank in range(world)] for world in (1, 2, 4)}


@pytest.mark.parametrize('losses', [(), ('weight',), ('trades',), ('align',)])
@pytest.mark.parametrize(('ratio', 'count'), [(0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_global_batch_is_attacked_alike_and_gives_the_same_steps(found, ratio, count, losses):
    (one,) = (run[(ratio, *losses)] for run in found[1])
    start = one['state']
    for turn in range(3):
        assert sum(one['attacked'][turn]['samples'].values()) == count
    for world in (2, 4):
        runs = [run[(ratio, *losses)] for run in found[world]]
        for turn in range(3):
            parts = [run['attacked'][turn] for run in runs]
            samples = {name: changed for part in parts for name, changed in part['samples'].items()}
            assert samples == one['attacked'][turn]['samples'], 'the same samples, whoever has them'
            loads = [sum(part['samples'].values()) for part in parts]
            assert max(loads) - min(loads) <= 1, 'equal work'
            passes = {part['passes'] for part in parts}
            assert len(passes) == 1 and passes != {0}, 'synchronised batch norms would wait'
        for run in runs:
            for key, value in run['state'].items():
                torch.testing.assert_close(value, start[key], rtol=1e-3, atol=2e-5)


def test_lambda_counts_with_one_image_per_process(found):
    plain, weighted = (found[4][0][(0.5, *losses)]['state'] for losses in ((), ('weight',)))
    assert any((plain[key] - weighted[key]).abs().max() > 1e-4 for key in plain if plain[key].is_floating_point())


def test_the_angle_counts_with_one_image_per_process(found):
    plain, aligned = (found[4][0][(0.5, *losses)]['state'] for losses in ((), ('align',)))
    assert any((plain[key] - aligned[key]).abs().max() > 1e-4 for key in plain if plain[key].is_floating_point())


def test_processes_draw_noise_of_their_own(found):
    """All attack one and the same image; each place of the global batch has its own noise, whoever has it."""
    (one,) = (run['noise'] for run in found[1])
    for world in (2, 4):
        noise = {name: image for run in found[world] for name, image in run['noise'].items()}
        assert noise.keys() == one.keys()
        assert all(torch.equal(image, one[name]) for name, image in noise.items())
    images = list(one.values())
    for i in range(4):
        assert all(not torch.allclose(images[i], other) for other in images[:i])


def test_processes_decide_alike_about_overfitting(found):
    for world, runs in found.items():
        for run in runs:
            assert run['harms'].tolist() == [(world - 1) / 2] * 3, 'the mean over the processes'
