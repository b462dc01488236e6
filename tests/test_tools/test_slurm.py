"""The launch scripts, the recipe of docs/slurm.md and studies under a slurm that runs here."""

import csv
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import REPO
from test_tools.commands import config_file, environment, latest_results, weights

pytestmark = pytest.mark.slow
SIZES = {'GPUS': '2', 'GPUS_PER_NODE': '2', 'CPUS_PER_TASK': '1'}
ITERS = 8


def ask(*command) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope='module')
def partition() -> str:
    """Slurm's default partition, with two GPUs in a node, pretended ones will do."""
    if shutil.which('sinfo') is None:
        pytest.skip('slurm is not installed')
    found = subprocess.run(['sinfo', '--noheader', '--format=%P %T %G'], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f'slurm is not running: {found.stderr.strip()}')
    for name, state, gpus in (line.split() for line in found.stdout.splitlines()):
        if name.endswith('*') and state in ('idle', 'mixed') and re.search(r'gpu:(\w+:)?[2-9]', gpus):
            return name.rstrip('*')
    pytest.skip(f'the default partition has no idle node with two GPUs: {found.stdout.strip()}')


@pytest.fixture(scope='module')
def env() -> dict:
    kept = {name: value for name, value in environment().items() if not name.startswith(('MASTER_', 'SLURM_'))}
    return {**kept, **SIZES, 'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}


@pytest.fixture(scope='module')
def trained(tmp_path_factory, synthetic_root, partition, env):
    """A config, the work dir of a training by two processes that was not stopped, and what it said."""
    folder = tmp_path_factory.mktemp('slurm')
    config = config_file(folder, synthetic_root, iters=ITERS)
    done = script('slurm_train.sh', env, partition, 'train', config, '--work-dir', folder / 'run')
    return config, folder / 'run', done.stdout + done.stderr


def script(name, env, *args):
    command = [REPO / 'tools' / name, *args]
    done = subprocess.run(list(map(str, command)), cwd=REPO, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_two_processes_train(trained):
    _, work_dir, said = trained
    meta = torch.load(work_dir / f'iter_{ITERS}.pth', weights_only=False)['meta']
    assert len(meta['random_states']) == 2
    assert 'loss_fusion' in said
    assert 'bucket view strides' not in said, 'gradients have the strides of their parameters'


def test_two_processes_test(trained, partition, env, tmp_path):
    config, work_dir, _ = trained
    args = [partition, 'test', config, work_dir / f'iter_{ITERS}.pth', '--attack', 'fgsm_eps4', '--work-dir', tmp_path]
    script('slurm_test.sh', env, *args)
    assert latest_results(tmp_path)['fgsm_eps4']['audit']['images'] == 4


def test_two_processes_report_robustness(trained, partition, env, tmp_path):
    config, work_dir, _ = trained
    args = ['--suite', 'paper', '--limit', 2, '--diagnostics', 0, '--strips', 0, '--bootstrap', 20]
    checkpoint = work_dir / f'iter_{ITERS}.pth'
    script(
        'slurm_test.sh', {**env, 'TOOL': 'robustness.py'}, partition, 'r', config, checkpoint, '--out', tmp_path, *args
    )
    assert len(yaml.safe_load((tmp_path / 'report.json').read_text())['images']) == 2


def wait_for(condition, seconds=300):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline
        time.sleep(0.1)


def facts(job: str) -> dict:
    """'JobState=PENDING Restarts=1 ...' of a job."""
    return dict(part.split('=', 1) for part in ask('scontrol', 'show', 'job', job).split() if '=' in part)


def wait_for_requeue(job: str) -> None:
    """Until it is queued again; then it may begin at once, not two minutes later."""
    wait_for(lambda: facts(job)['Restarts'] == '1' and facts(job)['JobState'] == 'PENDING')
    time.sleep(5)  # the node takes no job whose credential was revoked in this second
    ask('scontrol', 'update', f'JobId={job}', 'StartTime=now')


def recipe(partition, config, work_dir, log) -> str:
    """The script of docs/slurm.md for this machine."""
    text = re.search(r'```bash\n(#!/bin/bash.*?)```', (REPO / 'docs/slurm.md').read_text(), re.S)[1]
    text = text.replace('PARTITION', partition).replace('CONFIG', f'{config} --work-dir {work_dir}')
    for ours, here in (
        ('ntasks=4', 'ntasks=2'),
        ('node=4', 'node=2'),
        ('gpu:4', 'gpu:2'),
        ('per-task=5', 'per-task=1'),
    ):
        assert ours in text
        text = text.replace(ours, here)
    text = text.replace('GPUS=4 GPUS_PER_NODE=4 CPUS_PER_TASK=5 ', '')
    return text.replace('trap', f'#SBATCH --output={log}\ntrap', 1)


#: How it is told, and the code with which it exits.
TOLD = {'requeue': (['scontrol', 'requeue'], 143), 'time is up': (['scancel', '--signal=USR1'], 75)}


@pytest.mark.parametrize('how', TOLD)
def test_a_requeued_training_ends_with_the_weights_of_one_that_was_not(trained, partition, env, tmp_path, how):
    (told, code), (config, uninterrupted, _) = TOLD[how], trained
    work_dir, log = tmp_path / 'run', tmp_path / 'log.txt'
    (tmp_path / 'job.sh').write_text(recipe(partition, config, work_dir, log))
    submit = ['sbatch', '--parsable', str(tmp_path / 'job.sh')]
    job = subprocess.run(submit, cwd=REPO, env=env, capture_output=True, text=True, check=True).stdout.strip()
    try:
        wait_for(lambda: (work_dir / 'iter_2.pth').exists())
        ask(*told, job)
        wait_for_requeue(job)
        stopped = int(re.search(r'told to stop: checkpoint written at (\d+)', log.read_text())[1])
        assert 2 <= stopped < ITERS
        assert f'Exited with exit code {code}' in log.read_text()
        wait_for(lambda: facts(job)['JobState'] not in ('PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING'))
        assert (facts(job)['JobState'], facts(job)['ExitCode']) == ('COMPLETED', '0:0'), log.read_text()
    finally:
        subprocess.run(['scancel', job], check=False)
    assert f'resumed epoch: 0, iter: {stopped}' in log.read_text()
    expected, resumed = weights(uninterrupted, ITERS), weights(work_dir, ITERS)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_a_study_runs_as_arrays(synthetic_root, partition, env, tmp_path):
    """A start, two rows from it, a bank from one of them: three levels; one element is told that its time is up."""
    for kind in ('general', 'sat'):
        config_file(tmp_path, synthetic_root, kind, iters=4)
    settings = {'suite': 'paper', 'limit': 2, 'diagnostics': 0, 'strips': 0, 'bootstrap': 20}
    start = {'load_from': '{T.checkpoint}'}
    bank = {'load_from': '{T.checkpoint}', 'some_bank': '{bank.folder}'}
    plan = {
        'title': 'A plan of the tests',
        'scale': {
            'seeds': [0],
            'robustness': settings,
            'before': {
                'T': {'config': 'general.py'},
                'source': {'config': 'sat.py', 'options': start},
                'bank': {'craft': 'source', 'num': 4, 'steps': 2},
            },
        },
        'rows': [
            {'name': 'A', 'config': 'sat.py', 'options': {**start, 'train_cfg.max_iters': 3}},
            {'name': 'B', 'config': 'general.py', 'options': bank},
        ],
    }
    (tmp_path / 'plan.yaml').write_text(yaml.safe_dump(plan))
    work_dir = tmp_path / 'work'
    study = [sys.executable, '-W', 'ignore', REPO / 'tools/study.py', tmp_path / 'plan.yaml', '--work-dir', work_dir]
    submit = [*study, '--launcher', 'slurm', '--partition', partition, '--processes', '2']

    def run(command):
        done = subprocess.run(list(map(str, command)), cwd=REPO, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    said = run(submit)
    arrays = re.findall(r'^array (\d+): (.*)$', said, re.M)
    try:
        assert [text.count(', seed 0') for _, text in arrays] == [1, 2, 1, 1], 'T; the source and A; the bank; B'
        assert said.splitlines()[-1] == '5 jobs submitted, 0 were queued already, 0 are done'
        assert run(submit).splitlines()[-1] == '0 jobs submitted, 5 were queued already, 0 are done'
        first = f'{arrays[0][0]}_0'
        wait_for(lambda: list(work_dir.glob('*/seed0/train/iter_2.pth')))
        ask('scancel', '--signal=USR1', first)
        wait_for_requeue(first)
        numbers = ','.join(number for number, _ in arrays)
        wait_for(lambda: not ask('squeue', '--noheader', f'--jobs={numbers}'), 900)
    finally:
        subprocess.run(['scancel', *(number for number, _ in arrays)], check=False)
    said = run([*study, '--table'])
    with open(work_dir / 'plan.csv', encoding='utf-8') as file:
        assert {(line['row'], line['status']) for line in csv.DictReader(file)} == {('A', 'done'), ('B', 'done')}, said
    assert run(submit).splitlines()[-1] == '0 jobs submitted, 0 were queued already, 5 are done'
