"""How a stage of a job is started: in this machine's processes, on its GPUs, or as a step of a slurm job."""

import copy
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from .plan import Job, resolve

KINDS = ('none', 'pytorch', 'slurm')
FIRST_PORT = 29500


@dataclass(frozen=True)
class Launcher:
    """Commands of stages.

    Args:
        tools (Path): folder of the project's tools.
        kind (str): ``none`` (one process each), ``pytorch`` (``tools/dist_*.sh``) or ``slurm`` (``tools/slurm_*.sh``).
        processes (int): per job; GPUs, where there are any.
        jobs (int): at once.
        partition (str): slurm's.

    Raises:
        ValueError: unknown kind, no partition for slurm, or fewer GPUs on this machine than asked for.
    """

    tools: Path
    kind: str = 'none'
    processes: int = 1
    jobs: int = 1
    partition: str = ''

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f'launcher must be one of {", ".join(KINDS)}, not {self.kind!r}')
        if self.kind == 'slurm' and not self.partition:
            raise ValueError('--launcher slurm needs --partition')
        if self.kind == 'none' and self.processes > 1:
            raise ValueError('several processes per job need --launcher pytorch or slurm')
        found = len(devices())
        if self.kind != 'slurm' and found and self.jobs * self.processes > found:
            raise ValueError(f'{self.jobs} jobs of {self.processes} GPUs each, but this machine shows {found}')

    def command(self, job: Job, stage: str) -> list[str]:
        """What runs a stage; it continues where a former run of it stopped."""
        if stage == 'craft':
            source = job.needs['source']
            args = [
                config_file(source),
                source.checkpoint(),
                job.output(stage),
                *flags({'seed': job.seed, **job.craft}),
            ]
            command = [sys.executable, '-W', 'ignore', self.tools / 'craft_attacks.py', *args]
            if self.kind == 'slurm':
                asked = ['-p', self.partition, f'--job-name={_slug(job)}', '--gres=gpu:1', '--ntasks=1']
                asked.append(f'--cpus-per-task={os.environ.get("CPUS_PER_TASK", 5)}')
                command = ['srun', *asked, *shlex.split(os.environ.get('SRUN_ARGS', '')), *command]
            return [str(part) for part in command]
        what = [config_file(job)]
        if stage != 'train':
            what.append(job.checkpoint())
        last = {
            'train': ['--work-dir', job.output(stage), '--resume'],
            'test': ['--work-dir', job.output(stage)],
            'robustness': ['--out', job.output(stage), *flags(job.robustness or {})],
        }[stage]
        script = 'train.sh' if stage == 'train' else 'test.sh'
        if self.kind == 'pytorch':
            command = ['bash', self.tools / f'dist_{script}', *what, self.processes, *last]
        elif self.kind == 'slurm':
            command = ['bash', self.tools / f'slurm_{script}', self.partition, _slug(job), *what, *last]
        else:
            command = [sys.executable, '-W', 'ignore', self.tools / f'{stage}.py', *what, *last]
        return [str(part) for part in command]

    def environment(self, stage: str, slot: int) -> dict[str, str]:
        """Variables of the process that runs a stage, where ``slot`` counts the jobs that run at once."""
        env = dict(os.environ)
        env['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{env.get("PATH", "")}'  # the scripts call python
        if stage in ('test', 'robustness'):
            env['TOOL'] = f'{stage}.py'
        if self.kind == 'slurm':
            env['GPUS'] = str(self.processes)
            env.setdefault('GPUS_PER_NODE', str(min(self.processes, 8)))
            return env
        env['PORT'] = str(int(env.get('PORT', FIRST_PORT)) + slot)
        if shown := devices():
            env['CUDA_VISIBLE_DEVICES'] = ','.join(shown[slot * self.processes : (slot + 1) * self.processes])
        else:
            threads = max(1, (os.cpu_count() or 1) // (self.jobs * self.processes))
            env.setdefault('OMP_NUM_THREADS', str(threads))
        return env


def devices() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if 'CUDA_VISIBLE_DEVICES' in os.environ:
        return [name for name in os.environ['CUDA_VISIBLE_DEVICES'].split(',') if name.strip() and name[0] != '-']
    return [str(i) for i in range(torch.cuda.device_count())]


def flags(settings: Mapping) -> list[str]:
    """Command-line flags: ``{'limit': 32, 'eps': ['4/255', '8/255'], 'save_adv': True}``."""
    parts = []
    for key, value in settings.items():
        if value is False or value is None:
            continue
        parts.append(f'--{key.replace("_", "-")}')
        if value is not True:
            parts += [str(item) for item in (value if isinstance(value, list | tuple) else [value])]
    return parts


def config_file(job: Job) -> Path:
    """The config that a job's commands are given."""
    return job.folder / 'config.py'


def write_config(job: Job, processes: int = 1) -> None:
    """Write it: the plan's config with its options, the paths of what it needs, the seed, and shared batches."""
    if job.config is None:
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    config = Config(resolve(share_batches(job, processes).to_dict(), job))
    config.merge_from_dict({'randomness': {'seed': job.seed}})
    config.dump(config_file(job))


def share_batches(job: Job, processes: int) -> Config:
    """A job's config for several processes: a row means the same however many train it.

    Raises:
        ValueError: a batch can't be shared out evenly.
    """
    config = copy.deepcopy(job.config)
    if processes > 1:
        hooks = [hook for hook in config.get('custom_hooks') or [] if 'batch_size' in hook]
        for part in [config.train_dataloader, *hooks]:
            if part['batch_size'] % processes:
                raise ValueError(f"{job}: {processes} processes can't share a batch of {part['batch_size']} evenly")
            part['batch_size'] //= processes
    return config


def _slug(job: Job) -> str:
    return f'{job.folder.parent.name}-{job.folder.name}'
