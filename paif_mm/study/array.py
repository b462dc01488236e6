"""A study as array jobs of slurm: one element per job, no process outside of slurm."""

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from paif_mm.files import write_json

from .launch import Launcher
from .plan import Job
from .schedule import is_done

SUBMITTED = 'submitted.json'
#: Of an array. A shell that ended at slurm's SIGTERM would end the training before its checkpoint is written.
SCRIPT = """#!/bin/bash
jobs=({jobs})
trap '' TERM
{command} --job "${{jobs[$SLURM_ARRAY_TASK_ID]}}"
code=$?
[ $code -eq 75 ] && scontrol requeue "$SLURM_JOB_ID"  # the time was nearly up
exit $code
"""


class SubmitError(RuntimeError):
    """slurm refused; the message is its own."""


def submit(
    jobs: Sequence[Job],
    launcher: Launcher,
    work_dir: str | Path,
    command: Sequence[str],
    say: Callable[[str], None] = print,
) -> None:
    """Submit what is neither done nor queued: jobs that need none of the others, jobs that need only those, and so on.

    Each is an array that begins when the one before has ended, well or not; a job whose needs are not there says so.

    Args:
        jobs: of the study, each behind those that it needs.
        launcher: how many GPUs a job has, how many run at once, and the partition.
        work_dir: of the study.
        command: runs one job, given ``--job FOLDER`` (relative to ``work_dir``).
        say: prints a line.

    Raises:
        SubmitError: slurm refused, or is not there.
    """
    work_dir = Path(work_dir)
    (work_dir / 'slurm').mkdir(parents=True, exist_ok=True)
    queued, submitted = _queued(work_dir), {}
    undone = [job for job in jobs if not is_done(job)]
    before: list[str] = []
    for level in levels(undone):
        level = [job for job in level if _name(job, work_dir) not in queued]
        if not level:
            continue
        needs = {_name(need, work_dir) for job in level for need in job.needs.values()}
        before += [number for name, number in queued.items() if name in needs]
        names = [_name(job, work_dir) for job in level]
        script = SCRIPT.format(jobs=' '.join(map(shlex.quote, names)), command=shlex.join(command))
        number = _slurm(sbatch(launcher, len(level), work_dir, before), script).split(';')[0].strip()
        submitted |= {name: f'{number}_{i}' for i, name in enumerate(names)}
        write_json(work_dir / SUBMITTED, {**queued, **submitted})
        say(f'array {number}: ' + '; '.join(map(str, level)))
        before = [number]
    waiting = len(undone) - len(submitted)
    say(f'{len(submitted)} jobs submitted, {waiting} were queued already, {len(jobs) - len(undone)} are done')


def levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that need none of the others, jobs that need only those, and so on."""
    depth: dict[Path, int] = {}
    for job in jobs:
        depth[job.folder] = 1 + max([depth.get(need.folder, -1) for need in job.needs.values()], default=-1)
    return [[job for job in jobs if depth[job.folder] == level] for level in range(max(depth.values(), default=-1) + 1)]


def sbatch(launcher: Launcher, count: int, work_dir: Path, before: Sequence[str] = ()) -> list[str]:
    """The command that submits an array; ``SBATCH_ARGS`` in the environment has the last word."""
    per_node = os.environ.get('GPUS_PER_NODE', min(launcher.processes, 8))
    return [
        *('sbatch', '--parsable', '--requeue', '--open-mode=append', '--signal=USR1@120'),
        *(f'--partition={launcher.partition}', f'--job-name=study-{work_dir.name}'),
        *(f'--array=0-{count - 1}%{launcher.jobs}', f'--output={work_dir}/slurm/%A_%a.log'),
        *(f'--ntasks={launcher.processes}', f'--ntasks-per-node={per_node}', f'--gres=gpu:{per_node}'),
        f'--cpus-per-task={os.environ.get("CPUS_PER_TASK", 5)}',
        *([f'--dependency=afterany:{":".join(before)}'] if before else []),
        *shlex.split(os.environ.get('SBATCH_ARGS', '')),
    ]


def _queued(work_dir: Path) -> dict[str, str]:
    """Jobs that were submitted and have not ended -> their elements' numbers."""
    path = work_dir / SUBMITTED
    if not path.is_file():
        return {}
    alive = set(_slurm(['squeue', '--me', '--noheader', '--array', '--format=%i']).split())
    submitted = json.loads(path.read_text(encoding='utf-8'))
    return {name: number for name, number in submitted.items() if number in alive}


def _slurm(command: Sequence[str], text: str | None = None) -> str:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise SubmitError(f'--launcher slurm needs {command[0]}, which is not on this machine') from None
    except subprocess.CalledProcessError as error:
        raise SubmitError(error.stderr.strip() or f'{command[0]} ended with {error.returncode}') from None


def _name(job: Job, work_dir: Path) -> str:
    return str(job.folder.relative_to(work_dir))
