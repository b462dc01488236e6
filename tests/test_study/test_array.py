"""What is submitted to slurm, with a slurm that only says what it is asked for."""

import json
import os

import pytest
from test_study.studies import make_job

from paif_mm.study.array import SubmitError, levels, sbatch, submit
from paif_mm.study.launch import Launcher
from paif_mm.study.schedule import Schedule, error_of, finished, note

SBATCH = """#!/bin/sh
echo "$@" >> {folder}/asked
cat > {folder}/script$(wc -l < {folder}/asked)
echo "$((40 + $(wc -l < {folder}/asked)));cluster"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Gives numbers from 41 on; queued is what the file 'alive' says."""
    folder = tmp_path / 'slurm'
    folder.mkdir()
    (folder / 'alive').write_text('')
    (folder / 'sbatch').write_text(SBATCH.format(folder=folder))
    (folder / 'squeue').write_text(f'#!/bin/sh\ncat {folder}/alive\n')
    for name in ('sbatch', 'squeue'):
        (folder / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')
    for name in ('GPUS_PER_NODE', 'CPUS_PER_TASK', 'SBATCH_ARGS'):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def launcher(tmp_path):
    return Launcher(tmp_path, 'slurm', processes=2, jobs=3, partition='gpu')


def study(work_dir):
    """A start, two rows from it, one that needs a row, and one that needs nothing."""
    start = make_job(work_dir, 'T')
    a, b = make_job(work_dir, 'A', start), make_job(work_dir, 'B', start)
    return [start, a, b, make_job(work_dir, 'C', a), make_job(work_dir, 'D')]


def names(jobs) -> str:
    return ''.join(job.name for job in jobs)


def test_levels_are_what_can_run_at_once(tmp_path):
    jobs = study(tmp_path)
    assert [names(level) for level in levels(jobs)] == ['TD', 'AB', 'C']
    assert [names(level) for level in levels(jobs[1:])] == ['ABD', 'C'], 'with T done'
    assert levels([]) == []


def test_an_array_asks_for_the_gpus_of_a_job(tmp_path, launcher, slurm, monkeypatch):
    command = sbatch(launcher, 4, tmp_path, ['7', '8_1'])
    asked = ('--array=0-3%3', '--partition=gpu', '--ntasks=2', '--ntasks-per-node=2', '--gres=gpu:2')
    assert set(asked) <= set(command)
    assert command[-1] == '--dependency=afterany:7:8_1'
    monkeypatch.setenv('SBATCH_ARGS', '--time=1:00:00 --comment "a b"')
    assert sbatch(launcher, 4, tmp_path)[-3:] == ['--time=1:00:00', '--comment', 'a b']


def test_each_level_waits_for_the_one_before_and_nothing_is_submitted_twice(tmp_path, launcher, slurm):
    work_dir, said = tmp_path / 'work', []
    jobs = study(work_dir)

    def again() -> list[str]:
        said.clear()
        submit(jobs, launcher, work_dir, ['python', 'a b.py'], said.append)
        return [line.partition('--dependency=')[2] for line in (slurm / 'asked').read_text().splitlines()]

    assert again() == ['', 'afterany:41', 'afterany:42']
    assert said[0] == 'array 41: T, seed 0; D, seed 0'
    assert said[-1] == '5 jobs submitted, 0 were queued already, 0 are done'
    script = (slurm / 'script2').read_text()
    assert 'jobs=(A/seed0 B/seed0)\n' in script
    assert """python 'a b.py' --job "${jobs[$SLURM_ARRAY_TASK_ID]}"\n""" in script

    note(jobs[0], 'train', 1.0)  # T is done, D and B have failed, A is running
    (slurm / 'alive').write_text('42_0\n99_0\n')
    assert again()[3:] == ['', 'afterany:44:42_0'], 'B and D; C, after those and A'
    assert said[-1] == '3 jobs submitted, 1 were queued already, 1 are done'
    queued = json.loads((work_dir / 'submitted.json').read_text())
    assert queued == {'A/seed0': '42_0', 'B/seed0': '44_0', 'D/seed0': '44_1', 'C/seed0': '45_0'}


def test_what_slurm_says_is_passed_on(tmp_path, launcher, slurm, monkeypatch):
    (slurm / 'sbatch').write_text('#!/bin/sh\necho "sbatch: error: invalid partition" >&2\nexit 1\n')
    with pytest.raises(SubmitError, match='^sbatch: error: invalid partition$'):
        submit(study(tmp_path), launcher, tmp_path, [])
    monkeypatch.setenv('PATH', '')
    with pytest.raises(SubmitError, match='--launcher slurm needs sbatch, which is not on this machine'):
        submit(study(tmp_path), launcher, tmp_path, [])


# ---------------------------------------------------------------------------------------------- an element of an array


@pytest.mark.parametrize(('code', 'told'), [(75, 75), (138, 75), (143, 143), (1, 0)])
def test_a_stage_that_was_told_to_stop_is_no_other_failure(tmp_path, code, told):
    class Stage:
        jobs = processes = 1

        def command(self, job, stage):
            return ['sh', '-c', f'exit {code}']

        def environment(self, stage, slot):
            return dict(os.environ)

    job = make_job(tmp_path, 'A')
    schedule = Schedule([job], Stage(), say=lambda line: None)
    assert list(schedule.run()) == [job.folder]
    assert schedule.told_to_stop == told
    assert ('told to stop; the same command goes on' in error_of(job)) == bool(told)
    assert finished(job) == {}


def test_a_job_whose_needs_are_done_runs_alone(tmp_path):
    need = make_job(tmp_path, 'need')
    job = make_job(tmp_path, 'job', need)

    class Stage:
        jobs = processes = 1

        def command(self, job, stage):
            return ['true']

        def environment(self, stage, slot):
            return dict(os.environ)

    with pytest.raises(ValueError, match='job, seed 0 needs a job that is not among those to run'):
        Schedule([job], Stage(), say=lambda line: None).run()
    note(need, 'train', 1.0)
    assert Schedule([job], Stage(), say=lambda line: None).run() == {}
    assert set(finished(job)) == {'train'}
