"""Commands and environments of stages under each launcher."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO
from mmengine.config import Config
from test_study.studies import trained

from paif_mm.study.launch import Launcher, devices, flags, share_batches, write_config
from paif_mm.study.plan import Job

TOOLS = Path('tools')
PYTHON = [sys.executable, '-W', 'ignore']


@pytest.fixture
def job(tmp_path):
    settings = {'suite': 'paper', 'eps': ['1/255', '4/255'], 'batch_size': 2, 'save_adv': True}
    return trained(Job('A row', 1, tmp_path / 'a-0123abcd' / 'seed1', Config({'load_from': None}), robustness=settings))


@pytest.fixture
def bank(job):
    return Job('bank', 0, job.folder.parents[1] / 'bank-4567cdef' / 'seed0', None, {'source': job}, craft={'num': 4})


@pytest.fixture
def no_gpus(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    for name in ('PORT', 'MASTER_PORT', 'OMP_NUM_THREADS', 'GPUS', 'GPUS_PER_NODE', 'TOOL'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def four_gpus(no_gpus, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,3,5,7')


def test_one_process_runs_the_tools_themselves(job, no_gpus):
    launcher, folder = Launcher(TOOLS), job.folder
    config, checkpoint = str(folder / 'config.py'), str(folder / 'train/iter_2.pth')
    assert launcher.command(job, 'train') == [
        *PYTHON,
        'tools/train.py',
        config,
        '--work-dir',
        str(folder / 'train'),
        '--resume',
    ]
    assert launcher.command(job, 'test') == [
        *PYTHON,
        'tools/test.py',
        config,
        checkpoint,
        '--work-dir',
        str(folder / 'test'),
    ]
    out = str(job.output('robustness'))
    assert launcher.command(job, 'robustness') == [
        *PYTHON,
        *['tools/robustness.py', config, checkpoint, '--out', out],
        *['--suite', 'paper', '--eps', '1/255', '4/255', '--batch-size', '2', '--save-adv'],
    ]


def test_several_processes_run_the_dist_scripts(job, no_gpus):
    launcher, folder = Launcher(TOOLS, 'pytorch', processes=2), job.folder
    config, checkpoint = str(folder / 'config.py'), str(folder / 'train/iter_2.pth')
    train = ['bash', 'tools/dist_train.sh', config, '2', '--work-dir', str(folder / 'train'), '--resume']
    assert launcher.command(job, 'train') == train
    test = ['bash', 'tools/dist_test.sh', config, checkpoint, '2', '--work-dir', str(folder / 'test')]
    assert launcher.command(job, 'test') == test
    robustness = launcher.command(job, 'robustness')
    assert robustness[:7] == [*test[:5], '--out', str(job.output('robustness'))]
    assert robustness[7:9] == ['--suite', 'paper']


def test_slurm_gets_a_partition_and_a_name_for_each_job(job, bank, no_gpus, monkeypatch):
    launcher, folder = Launcher(TOOLS, 'slurm', processes=4, partition='gpu'), job.folder
    what = ['gpu', 'a-0123abcd-seed1', str(folder / 'config.py')]
    train = ['bash', 'tools/slurm_train.sh', *what, '--work-dir', str(folder / 'train'), '--resume']
    assert launcher.command(job, 'train') == train
    checkpoint = str(folder / 'train/iter_2.pth')
    test = ['bash', 'tools/slurm_test.sh', *what, checkpoint, '--work-dir', str(folder / 'test')]
    assert launcher.command(job, 'test') == test
    craft = launcher.command(bank, 'craft')
    asked = ['-p', 'gpu', '--job-name=bank-4567cdef-seed0', '--gres=gpu:1', '--ntasks=1', '--cpus-per-task=5']
    plain = Launcher(TOOLS).command(bank, 'craft')
    assert craft == ['srun', *asked, *plain]
    monkeypatch.setenv('SRUN_ARGS', '--account=us --qos "a b"')
    monkeypatch.setenv('CPUS_PER_TASK', '2')
    asked[-1] = '--cpus-per-task=2'
    assert launcher.command(bank, 'craft') == ['srun', *asked, '--account=us', '--qos', 'a b', *plain]


@pytest.mark.parametrize('kind', ['none', 'pytorch'])
def test_a_bank_is_made_by_one_process(job, bank, no_gpus, kind):
    assert Launcher(TOOLS, kind).command(bank, 'craft') == [
        *PYTHON,
        'tools/craft_attacks.py',
        str(job.folder / 'config.py'),
        str(job.folder / 'train/iter_2.pth'),
        str(bank.folder / 'craft'),
        '--seed',
        '0',
        '--num',
        '4',
    ]


CALLS = {
    ('pytorch', 'train'): 'train.py {config} --launcher pytorch --work-dir {train} --resume',
    ('pytorch', 'test'): 'test.py {config} {checkpoint} --launcher pytorch --work-dir {test}',
    (
        'pytorch',
        'robustness',
    ): 'robustness.py {config} {checkpoint} --launcher pytorch --out {robustness} --suite paper',
    ('slurm', 'train'): 'train.py {config} --launcher slurm --work-dir {train} --resume',
    ('slurm', 'test'): 'test.py {config} {checkpoint} --launcher slurm --work-dir {test}',
    ('slurm', 'robustness'): 'robustness.py {config} {checkpoint} --launcher slurm --out {robustness} --suite paper',
}
STARTS = {
    'pytorch': '-m torch.distributed.run --nnodes=1 --node_rank=0 --master_addr=127.0.0.1 --master_port=29501 '
    '--nproc_per_node=2 ',
    'slurm': '-p gpu --job-name=a-0123abcd-seed1 --gres=gpu:2 --ntasks=2 --ntasks-per-node=2 --cpus-per-task=5 '
    '--kill-on-bad-exit=1 python -u ',
}


@pytest.mark.parametrize(('kind', 'stage'), CALLS)
def test_the_scripts_call_the_tool_of_the_stage(job, no_gpus, tmp_path, kind, stage):
    for name in ('python', 'srun'):  # which say what they are asked for
        (tmp_path / 'bin').mkdir(exist_ok=True)
        (tmp_path / 'bin' / name).write_text('#!/bin/sh\necho "$@"\n')
        (tmp_path / 'bin' / name).chmod(0o755)
    launcher = Launcher(REPO / 'tools', kind, processes=2, jobs=2, partition='gpu')
    env = launcher.environment(stage, slot=1)
    env['PATH'] = f'{tmp_path / "bin"}{os.pathsep}{env["PATH"]}'
    command = launcher.command(job, stage)
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    paths = {name: job.output(name) for name in job.stages}
    call = CALLS[kind, stage].format(config=job.folder / 'config.py', checkpoint=job.checkpoint(), **paths)
    assert said.startswith(f'{STARTS[kind]}{REPO}/tools/{call}')


def test_jobs_that_run_at_once_have_their_own_ports_and_gpus(four_gpus):
    launcher = Launcher(TOOLS, 'pytorch', processes=2, jobs=2)
    first, second = (launcher.environment('train', slot) for slot in (0, 1))
    assert (first['PORT'], second['PORT']) == ('29500', '29501')
    assert (first['CUDA_VISIBLE_DEVICES'], second['CUDA_VISIBLE_DEVICES']) == ('2,3', '5,7')
    assert 'OMP_NUM_THREADS' not in first


def test_ports_begin_at_the_users(no_gpus, monkeypatch):
    monkeypatch.setenv('PORT', '12000')
    assert Launcher(TOOLS, 'pytorch', 2, jobs=3).environment('train', 2)['PORT'] == '12002'


def test_processors_are_shared_between_jobs(no_gpus, monkeypatch):
    launcher = Launcher(TOOLS, 'pytorch', processes=2, jobs=2)
    assert launcher.environment('train', 0)['OMP_NUM_THREADS'] == str(max(1, os.cpu_count() // 4))
    many = Launcher(TOOLS, jobs=4 * os.cpu_count())
    assert many.environment('train', 0)['OMP_NUM_THREADS'] == '1'
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert launcher.environment('train', 0)['OMP_NUM_THREADS'] == '3', "the user's"


def test_scripts_find_this_python_and_the_tool_of_a_stage(no_gpus):
    launcher = Launcher(TOOLS)
    env = launcher.environment('robustness', 0)
    assert env['PATH'].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert env['TOOL'] == 'robustness.py'
    assert 'TOOL' not in launcher.environment('train', 0)


def test_slurm_gets_its_number_of_gpus(no_gpus, monkeypatch):
    launcher = Launcher(TOOLS, 'slurm', processes=16, jobs=3, partition='gpu')
    env = launcher.environment('test', 2)
    assert (env['GPUS'], env['GPUS_PER_NODE'], env['TOOL']) == ('16', '8', 'test.py')
    assert 'PORT' not in env
    assert 'MASTER_PORT' not in env, 'made of the number of the slurm job'
    monkeypatch.setenv('GPUS_PER_NODE', '4')
    assert launcher.environment('test', 0)['GPUS_PER_NODE'] == '4', "the user's"


def test_flags_are_those_of_a_command_line():
    settings = {'suite': 'strong', 'limit': 32, 'eps': ['4/255', '8/255'], 'save_adv': True, 'seed': 0}
    said = '--suite strong --limit 32 --eps 4/255 8/255 --save-adv --seed 0'
    assert flags(settings) == said.split()
    assert flags({'save_adv': False, 'limit': None}) == []


def test_wrong_launchers_are_refused(four_gpus):
    with pytest.raises(ValueError, match="launcher must be one of none, pytorch, slurm, not 'mpi'"):
        Launcher(TOOLS, 'mpi')
    with pytest.raises(ValueError, match='--launcher slurm needs --partition'):
        Launcher(TOOLS, 'slurm')
    with pytest.raises(ValueError, match='several processes per job need --launcher pytorch or slurm'):
        Launcher(TOOLS, processes=2)
    with pytest.raises(ValueError, match='3 jobs of 2 GPUs each, but this machine shows 4'):
        Launcher(TOOLS, 'pytorch', processes=2, jobs=3)
    assert Launcher(TOOLS, 'slurm', processes=8, jobs=3, partition='gpu').jobs == 3, 'elsewhere'


def test_hidden_gpus_are_no_gpus(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1,GPU-3a')
    assert devices() == ['1', 'GPU-3a']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert devices() == []


def test_the_written_config_has_paths_and_seed(tmp_path):
    need = trained(Job('T', 0, tmp_path / 't' / 'seed0', None))
    options = {
        'load_from': '{T.checkpoint}',
        'hooks': [{'bank': '{T.folder}/x'}],
        'randomness': {'deterministic': True},
    }
    job = Job('A', 3, tmp_path / 'a' / 'seed3', Config(options), {'T': need})
    write_config(job)
    written = Config.fromfile(job.folder / 'config.py')
    assert written.load_from == str(need.folder / 'train/iter_2.pth')
    assert written.hooks[0].bank == f'{need.folder}/train/x'
    assert written.randomness == {'deterministic': True, 'seed': 3}
    assert job.config.load_from == '{T.checkpoint}', 'the plan is as it was'


def test_batches_are_shared_out_so_that_a_row_means_the_same(tmp_path):
    hooks = [{'type': 'AATMetaInitHook', 'batch_size': 6}, {'type': 'FusionLossHook'}]
    job = Job('A', 0, tmp_path / 'a' / 'seed0', Config({'train_dataloader': {'batch_size': 4}, 'custom_hooks': hooks}))
    write_config(job, processes=2)
    written = Config.fromfile(job.folder / 'config.py')
    assert written.train_dataloader.batch_size == 2
    assert [hook.get('batch_size') for hook in written.custom_hooks] == [3, None]
    assert job.config.train_dataloader.batch_size == 4, 'the plan is as it was'
    with pytest.raises(ValueError, match="A, seed 0: 4 processes can't share a batch of 6 evenly"):
        share_batches(job, 4)


def test_a_bank_has_no_config(bank):
    write_config(bank)
    assert not bank.folder.exists()
