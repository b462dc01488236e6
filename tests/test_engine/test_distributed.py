"""Two CPU processes: gradients are shared, N's included, and batch-norm statistics where they count."""

import socket
import subprocess
import sys

import pytest
from conftest import REPO, environment

WORKER = """
import os, sys, torch
from mmengine.config import ConfigDict
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from helpers import build_model, deterministic, pair_batch, tiny_segformer
from paif_mm.compat import init_cpu_distributed

config = ConfigDict(launcher='pytorch', model=dict(head=[dict(type='SyncBN')]), sync_bn='torch')
init_cpu_distributed(config)
assert config.model.head[0].type == 'BN'
assert 'sync_bn' not in config, 'mmengine would convert all others to what runs on GPUs alone'
rank = torch.distributed.get_rank()
model = deterministic(build_model(tiny_segformer()))
batch = pair_batch([(32, 32), (32, 32)], ignored=False)
mine = {key: value[rank:rank + 1] for key, value in batch.items()}
wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
wrapped.train()
wrapped.train_step(mine, OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.1)))
if rank == 0:
    single = deterministic(build_model(tiny_segformer()))
    start = {key: value.clone() for key, value in single.state_dict().items()}
    single.train()
    single.train_step(batch, OptimWrapper(torch.optim.SGD(single.parameters(), lr=0.1)))
    for (name, a), b in zip(single.named_parameters(), model.parameters()):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4, msg=lambda m: name + ': ' + m)
    moved = [not torch.equal(start[key], value) for key, value in single.state_dict().items() if 'fusion' in key]
    assert sum(moved) > len(moved) / 2
    print('equal')

# statistics of batch norms: each process has its own, until a validation or a checkpoint
from types import SimpleNamespace
from mmengine.hooks import EMAHook
from paif_mm.engine.checkpoint_hook import ResumableCheckpointHook
model = build_model(tiny_segformer()).train()
wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
runner = SimpleNamespace(model=wrapped, iter=0, seed=0, work_dir='.')
ema = EMAHook(momentum=0.5, update_buffers=True)
ema.before_run(runner)
larger = pair_batch([(64, 64), (64, 64)])
mine = {key: value[rank:rank + 1] for key, value in larger.items()}
wrapped.train_step(mine, OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.1)))
ema.after_train_iter(runner, 0)
def gathered(module):
    mean = module.decode_head.convs[0].bn.running_mean
    both = [torch.empty_like(mean) for _ in range(2)]
    torch.distributed.all_gather(both, mean)
    return both
for module in (model, ema.ema_model.module):
    first, second = gathered(module)
    assert not torch.allclose(first, second)
expected = [torch.stack(gathered(module)).mean(0) for module in (model, ema.ema_model.module)]
runner.hooks = [ema]
own = [module.decode_head.convs[0].bn.running_mean.clone() for module in (model, ema.ema_model.module)]
hook = ResumableCheckpointHook()
hook.before_val(runner)
for module, mean in zip((model, ema.ema_model.module), expected):
    for found in gathered(module):
        torch.testing.assert_close(found, mean)
hook.after_val(runner)
for module, mean in zip((model, ema.ema_model.module), own):
    assert torch.equal(module.decode_head.convs[0].bn.running_mean, mean), 'the training goes on with its own'
if rank == 0:
    print('averaged')
torch.distributed.destroy_process_group()
"""


def test_two_ranks_equal_one_rank_with_both_batches(tmp_path):
    worker = tmp_path / 'worker.py'
    worker.write_text(WORKER)
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29612', str(worker)],
        env=environment(REPO / 'tests'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'equal' in done.stdout
    assert 'averaged' in done.stdout


#: As sync_bn='torch' has it; both processes on one device. Single process: plain batch norms on the whole batch.
SYNCHRONISED = """
import sys, torch
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from mmengine.optim import OptimWrapper
from helpers import build_model, pair_batch, tiny_segformer
from synchronised import synchronise_on_cpu, without_dropout

device = sys.argv[1]
torch.distributed.init_process_group('gloo')
rank = torch.distributed.get_rank()
batch = pair_batch([(32, 32), (32, 32)], ignored=False)

def stepped(model, batch, ids=None):
    model = model.to(device).train()
    wrapped = model
    if ids != 'alone':
        wrapped = MMDistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
    for _ in range(2):
        wrapped.train_step(batch, OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.05)))
    return {key: value.cpu() for key, value in model.state_dict().items()}

model = without_dropout(build_model(tiny_segformer()))
model = synchronise_on_cpu(model) if device == 'cpu' else convert_sync_batchnorm(model, 'torch')
mine = {key: value[rank:rank + 1] for key, value in batch.items()}
found = stepped(model, mine, None if device == 'cpu' else [0])
if rank == 0:
    alone = stepped(without_dropout(build_model(tiny_segformer())), batch, 'alone')
    start = build_model(tiny_segformer()).state_dict()
    assert any('running_mean' in key and not torch.equal(start[key], alone[key]) for key in start)
    for key, value in alone.items():
        torch.testing.assert_close(found[key], value, rtol=1e-2, atol=1e-4, msg=lambda m: key + ': ' + m)
    print('as one process')
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize(
    'device', [pytest.param('cpu', marks=pytest.mark.slow), pytest.param('cuda', marks=pytest.mark.gpu)]
)
def test_synchronised_norms_of_two_ranks_are_those_of_the_whole_batch(tmp_path, device):
    worker = tmp_path / 'worker.py'
    worker.write_text(SYNCHRONISED)
    with socket.socket() as place:
        place.bind(('127.0.0.1', 0))
        port = place.getsockname()[1]
    both = {'WORLD_SIZE': '2', 'LOCAL_RANK': '0', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(worker), device],
            env={**environment(REPO / 'tests'), **both, 'RANK': str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said[0][1][-2000:] + said[1][1][-2000:]
    assert 'as one process' in said[0][0]
