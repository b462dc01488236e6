"""Two CPU processes: gradients are shared, N's included, and batch-norm statistics where they count."""

import os
import subprocess
import sys

from conftest import REPO

WORKER = """
import os, sys, torch
from mmengine.config import ConfigDict
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from helpers import build_model, deterministic, pair_batch, tiny_segformer
from paif_mm.compat import init_cpu_distributed

config = ConfigDict(launcher='pytorch', model=dict(head=[dict(type='SyncBN')]))
init_cpu_distributed(config)
assert config.model.head[0].type == 'BN'
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
    path = os.pathsep.join([str(REPO), str(REPO / 'tests')])
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29612', str(worker)],
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'equal' in done.stdout
    assert 'averaged' in done.stdout
