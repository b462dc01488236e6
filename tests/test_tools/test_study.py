"""Studies as users run them: every shipped plan at a scale of seconds, killed once."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import REPO
from test_tools import commands
from test_tools.test_aat import SMALL
from test_tools.test_robustness import call
from test_tools.test_search import search_config

PLANS = sorted((REPO / 'configs/study').glob('*.yaml'))
ROWS = {path.stem: [row['name'] for row in yaml.safe_load(path.read_text())['rows']] for path in PLANS}
#: Enough of them to run every config, every step and every kind of override.
SOME = {
    *('General', 'SAT', 'AAT', 'HDS', 'DARTS', 'CA', 'searched here', 'average', 'infrared SAT', '3-C'),
    *('all', 'clean first', 'warm start on clean pairs', '3-DC, AA', 'AA'),
}

CLEAN_FIRST = """
custom_hooks = [
    dict(type='paif_mm.FusionLossHook'),
    dict(type='paif_mm.AdversarialAttackHook', attack=dict(type='PGD', eps=4 / 255, steps=1, keep='last'), begin=1),
]
"""

PLAN = """
title: A plan of the tests
rows: [{name: A, config: a, options: {load_from: '{T.checkpoint}'}}]
scale:
  seeds: [0, 1]
  configs: {a: a.py}
  before: {T: {config: a.py, options: {train_cfg.max_iters: 3}}}
"""


@pytest.fixture
def plan(tmp_path):
    config = 'train_cfg = dict(max_iters=2)\ntrain_dataloader = dict(batch_size=4)\nload_from = None\n'
    (tmp_path / 'a.py').write_text(config)
    (tmp_path / 'plan.yaml').write_text(PLAN)
    return tmp_path / 'plan.yaml'


def test_a_dry_run_shows_every_job_and_writes_nothing(plan, monkeypatch, capsys, tmp_path):
    work_dir = tmp_path / 'work'
    call(monkeypatch, 'study', plan, '--work-dir', work_dir, '--dry-run')
    lines = capsys.readouterr().out.splitlines()
    assert [line[: line.index(' (')] for line in lines] == [
        'T, seed 0: train',
        'A, seed 0, after T, seed 0: train, test, robustness',
        'A, seed 1, after T, seed 0: train, test, robustness',
    ]
    assert re.search(rf' \({work_dir}/a-[0-9a-f]{{8}}/seed1\)$', lines[2])
    assert not work_dir.exists()
    call(monkeypatch, 'study', plan, '--work-dir', work_dir, '--dry-run', '--seeds', '7')
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_tables_of_what_there_is(plan, monkeypatch, capsys, tmp_path):
    call(monkeypatch, 'study', plan, '--work-dir', tmp_path / 'work', '--table')
    said = capsys.readouterr().out
    assert 'Not run: A.' in said
    assert f'written to {tmp_path}/work: plan.md, plan.csv\n' in said
    assert {path.name for path in (tmp_path / 'work').iterdir()} == {'plan.csv', 'plan.md'}, 'nothing to draw'


def test_what_cant_be_run_is_said_in_one_line(plan, monkeypatch, tmp_path):
    def refused(*args, plan=plan, more=()):
        with pytest.raises(SystemExit) as caught:
            call(monkeypatch, 'study', plan, *more, '--work-dir', tmp_path / 'work', *args)
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    assert refused(plan=tmp_path / 'none.yaml') == f'{tmp_path}/none.yaml does not exist'
    assert refused('--scale', 'huge') == f'{tmp_path}/scales/huge.yaml does not exist'
    assert refused('--rows', 'B') == 'no plan has a row B; there are A'
    assert refused('--launcher', 'slurm') == '--launcher slurm needs --partition'
    assert refused(more=[plan]) == f'two plans would write one table: {plan}, {plan}'
    uneven = ('--launcher', 'slurm', '--partition', 'gpu', '--processes', '3')
    assert refused(*uneven) == "T, seed 0: 3 processes can't share a batch of 4 evenly"
    assert not (tmp_path / 'work').exists()


def test_an_element_of_an_array_says_what_it_can_not_run(plan, monkeypatch, capsys, tmp_path):
    work_dir = tmp_path / 'work'

    def refused(folder) -> str:
        with pytest.raises(SystemExit) as caught:
            call(monkeypatch, 'study', plan, '--work-dir', work_dir, '--job', folder)
        return str(caught.value)

    assert refused('a-00000000/seed0') == f'a-00000000/seed0 is no job of {work_dir}: the plan has changed'
    call(monkeypatch, 'study', plan, '--work-dir', work_dir, '--dry-run')
    folder = re.search(rf'^A, seed 1.*\({work_dir}/(.*)\)$', capsys.readouterr().out, re.M)[1]
    why = 'needs T, seed 0, which failed: it did not run'
    assert refused(folder) == f'A, seed 1 {why}'
    assert yaml.safe_load((work_dir / folder / 'state.json').read_text())['error'] == why


def tiny_scale(folder, data):
    """A scale whose trainings have two iterations, and its file."""
    for kind in ('general', 'sat', 'aat'):
        commands.config_file(folder, data, kind, iters=2)
    (folder / 'aat.py').write_text((folder / 'aat.py').read_text() + SMALL.format(bank='nowhere'))
    for kind in ('hds', 'darts'):
        search_config(folder, data, kind)
    fusions = {
        'average': "dict(_delete_=True, type='AverageFusion', ir_weight=0.5)",
        'plain': "dict(_delete_=True, type='FusionBaseline', operation='3-RB', rule='CC', depth=1, channels=4)",
    }
    for fusion, config in fusions.items():
        for kind in ('general', 'sat'):
            text = (folder / f'{kind}.py').read_text().replace('dict(channels=4)', config)
            (folder / f'{fusion}_{kind}.py').write_text(text)
    (folder / 'clean_first.py').write_text((folder / 'sat.py').read_text() + CLEAN_FIRST)
    rows = ('general', 'sat', 'clean first', 'aat', 'plain general', 'plain sat', 'average general', 'average sat')
    start = {'load_from': '{T.checkpoint}'}
    content = {
        'seeds': [0],
        'robustness': {'suite': 'paper', 'limit': 2, 'diagnostics': 0, 'strips': 0, 'bootstrap': 20},
        'options': start,
        'configs': {name: f'{name.replace(" ", "_")}.py' for name in rows},
        'before': {
            'T': {'config': 'average_general.py'},
            'source': {'config': 'sat.py', 'options': start},
            'bank': {'craft': 'source', 'num': 4, 'steps': 2},
            'clean bank': {'craft': 'source', 'num': 4, 'steps': 1, 'levels': ['one=0', 'two=0']},
            'HDS search': {'config': 'hds.py', 'options': start},
            'DARTS search': {'config': 'darts.py', 'options': start},
        },
    }
    (folder / 'tiny.yaml').write_text(yaml.safe_dump(content))
    return folder / 'tiny.yaml'


def begun(work_dir) -> dict[str, int]:
    """How often each stage of each job was begun."""
    logs = sorted(work_dir.glob('*/seed*/*.log'))
    return {str(log.relative_to(work_dir)): len(re.findall('^[$] ', log.read_text(), re.M)) for log in logs}


def ended(work_dir) -> set[str]:
    """Stages that are done, as :func:`begun` calls them."""
    states = {path.parent: yaml.safe_load(path.read_text()) for path in work_dir.glob('*/seed*/state.json')}
    return {
        f'{folder.relative_to(work_dir)}/{stage.split("-")[0]}.log'
        for folder, state in states.items()
        for stage in state.get('seconds', {})
    }


@pytest.mark.slow
def test_all_shipped_plans_end_in_tables_though_killed_once(synthetic_root, tmp_path):
    work_dir, scale = tmp_path / 'work', tiny_scale(tmp_path, synthetic_root)
    jobs = ['--jobs', os.cpu_count() or 1]
    args = [*PLANS, '--scale', scale, '--work-dir', work_dir, *jobs, '--rows', *sorted(SOME)]
    command = [sys.executable, '-W', 'ignore', REPO / 'tools/study.py', *args]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    study = subprocess.Popen(list(map(str, command)), cwd=REPO, env=commands.environment(), **pipes)
    deadline = time.time() + 600
    while len(ended(work_dir)) < 5:
        assert study.poll() is None, study.stdout.read()
        assert time.time() < deadline
        time.sleep(0.1)
    study.send_signal(signal.SIGTERM)
    said, _ = study.communicate(timeout=300)
    assert study.returncode == 1
    assert said.splitlines()[-1] == 'stopped; the same command goes on'
    assert 'failed' not in said
    first = ended(work_dir)
    assert len(first) >= 5

    done = commands.run('study.py', *args)
    assert 'failed' not in done.stdout
    again = begun(work_dir)
    assert ended(work_dir) == again.keys()
    assert {again[stage] for stage in first} == {1}, 'what was done was not done again'
    repeated = [stage for stage, count in again.items() if count > 1]
    assert len(repeated) <= (os.cpu_count() or 1), 'but for what was being done'
    for plan, names in ROWS.items():
        complete(work_dir, f'{plan}_tiny', [name for name in names if name in SOME], done.stdout)

    done = commands.run('study.py', *args)
    assert begun(work_dir) == again, 'nothing was left to do'


def complete(work_dir, plan, names, said) -> None:
    """The table of a plan has all rows, with all figures."""
    with open(work_dir / f'{plan}.csv', encoding='utf-8') as file:
        lines = [line for line in csv.DictReader(file) if line['status'] != 'not run']
    assert {line['status'] for line in lines} == {'done'}
    assert set(names) <= {line['row'] for line in lines}, 'and those that are the same as rows of other plans'
    for line in lines:
        for test in ('clean, all', 'clean', 'pgd5-4', 'pgd5-8'):
            assert 0 <= float(line[f'{test}: mIoU']) <= 100
            assert line[f'{test}: IoU/car']
    text = (work_dir / f'{plan}.md').read_text()
    assert text in said
    assert 'Not in the means' not in text
    assert ('paper: ' in text) == (plan in ('table1_tiny', 'table3_tiny', 'table4_tiny', 'table5_tiny'))
    assert (work_dir / f'{plan}.svg').read_text().count('clean') > 0
