"""The check that a GPU is given: its time limits, what it leaves behind, and that it runs from end to end."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gpu_check
import pytest
from conftest import REPO, environment
from gpu_check import Check, FailedError, Step


def python(code: str) -> list[str]:
    return [sys.executable, '-c', code]


@pytest.fixture
def check(tmp_path) -> Check:
    return Check(tmp_path, time.monotonic() + 60, 20, ['gpu_check.sh', '--rehearse'], rehearsed=True)


def saved(folder) -> tuple[dict, str]:
    return json.loads((folder / 'gpu_check.json').read_text())['steps'], (folder / 'gpu_check.md').read_text()


def test_a_benchmark_leaves_its_lines_and_figures(check, tmp_path):
    code = 'print("plain 2 s"); print(\'{"ratio": 1.25, "a|b": 2}\')'
    assert check.run(Step('speed', 'Speed', [python(code)], 30))
    steps, page = saved(tmp_path)
    assert steps['speed']['status'] == 'passed'
    assert steps['speed']['figures'] == {'ratio': 1.25, 'a|b': 2}
    assert '| Speed | passed |' in page
    assert '```\nplain 2 s\n```\n\n| figure | value |\n|---|---|\n| ratio | 1.25 |\n| a\\|b | 2 |\n' in page


def test_a_step_that_takes_too_long_is_stopped_with_its_children_and_keeps_what_it_said(check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, 'GRACE', 0.5)
    code = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))
print('half of it', flush=True)
time.sleep(60)
"""
    begun = time.monotonic()
    monkeypatch.setattr(gpu_check, 'LEAST', 0)
    assert not check.run(Step('slow', 'Slow', [python(code)], 2))
    assert time.monotonic() - begun < 20
    steps, page = saved(tmp_path)
    assert (steps['slow']['status'], steps['slow']['why']) == ('stopped', 'it took more than 2 s')
    assert '| Slow | stopped: it took more than 2 s |' in page
    assert 'half of it' in page
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            os.kill(int((tmp_path / 'child').read_text()), 0)
            time.sleep(0.1)


def test_a_training_that_is_told_to_stop_has_passed(check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, 'LEAST', 0)
    code = 'import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print(\'{"iterations": 7}\'), '
    code += 'sys.exit(143))); print("begun", flush=True); time.sleep(60)'
    assert check.run(Step('training', 'Training', [python(code)], 3, stoppable=True))
    assert saved(tmp_path)[0]['training']['figures'] == {'iterations': 7, 'stopped': 'after 3 s'}


@pytest.mark.parametrize(
    ('code', 'why'),
    [
        ('import sys; print("{}"); sys.exit("CUDA out of memory")', 'CUDA out of memory'),
        ('import os; os._exit(9)', 'exit code 9'),
        ('print("no figures")', 'its last line is no JSON'),
        ('print("[1]")', 'its last line is no JSON'),
    ],
)
def test_a_failure_is_told_and_the_next_step_runs(check, tmp_path, code, why):
    assert not check.run(Step('bad', 'Bad', [python(code)], 30))
    assert check.run(Step('good', 'Good', [python('print("{}")')], 30))
    steps, page = saved(tmp_path)
    assert (steps['bad']['status'], steps['bad']['why']) == ('failed', why)
    assert f'| Bad | failed: {why} |' in page


def test_one_failing_process_of_several_fails_the_step(check, tmp_path):
    codes = ['print("{}")', 'raise SystemExit("the other rank is gone")']
    assert not check.run(Step('ranks', 'Ranks', [python(code) for code in codes], 30))
    assert saved(tmp_path)[0]['ranks']['why'] == 'the other rank is gone'


def test_steps_leave_time_for_the_training(check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, 'GRACE', 1)
    check.deadline = time.monotonic() + 22  # 20 are reserved
    assert not check.run(Step('late', 'Late', [python('print("{}")')], 30))
    assert check.run(Step('training', 'Training', [python('print("{}")')], 30, leaves=0))
    steps, _ = saved(tmp_path)
    assert (steps['late']['status'], steps['late']['why']) == ('skipped', 'no time was left')
    assert 20 <= steps['training']['limit'] <= 21, 'and to be told to stop'


def test_processes_that_will_not_stop_share_one_grace_within_the_time_of_all(check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, 'GRACE', 2)
    monkeypatch.setattr(gpu_check, 'LEAST', 0)
    code = (
        'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print("deaf", flush=True); time.sleep(60)'
    )
    begun = time.monotonic()
    check.deadline = begun + 6
    assert not check.run(Step('deaf', 'Deaf', [python(code)] * 4, 30, leaves=0))
    assert 5 < time.monotonic() - begun < 7, 'not two seconds for each'
    assert saved(tmp_path)[0]['deaf']['why'] == 'it took more than 4 s'
    assert [(tmp_path / f'deaf{i}.txt').read_text() for i in ('', '_1', '_2', '_3')] == ['deaf\n'] * 4


def test_all_processes_are_told_to_stop_at_once(check, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, 'GRACE', 5)
    monkeypatch.setattr(gpu_check, 'LEAST', 0)
    code = 'import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print(time.time(), flush=True), '
    code += 'time.sleep(1), sys.exit())); time.sleep(60)'
    assert not check.run(Step('slow', 'Slow', [python(code)] * 3, 3))
    told = [float((tmp_path / f'slow{i}.txt').read_text()) for i in ('', '_1', '_2')]
    assert max(told) - min(told) < 0.9


def test_a_run_that_is_cut_off_keeps_what_it_had_and_ends_what_runs(tmp_path):
    code = f"""
import sys, time
sys.path.insert(0, {str(REPO / 'tools')!r})
import gpu_check
from pathlib import Path
def steps(args, out):
    yield gpu_check.Step('first', 'First', [[sys.executable, '-c', 'print(\\'{{"a": 1}}\\')']], 30)
    yield gpu_check.Step('second', 'Second', [[sys.executable, '-c', 'import os, time; '
        'open("{tmp_path / 'pid'}", "w").write(str(os.getpid())); time.sleep(60)']], 50)
gpu_check.chosen = steps
gpu_check.DEVICE = 'print(\\'{{"device": "none"}}\\')'
sys.exit(gpu_check.main(['--out', {str(tmp_path)!r}, '--rehearse']))
"""
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.DEVNULL)
    for _ in range(300):
        if (tmp_path / 'pid').is_file() and (tmp_path / 'pid').read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    steps, page = saved(tmp_path)
    assert {name: step['status'] for name, step in steps.items()} == {
        'device': 'passed',
        'first': 'passed',
        'second': 'cut off',
    }
    assert '| a | 1 |' in page
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            os.kill(int((tmp_path / 'pid').read_text()), 0)
            time.sleep(0.1)


def test_wheels_are_installed_for_the_steps_alone(check, tmp_path):
    """A wheel without dependencies, made here by hand."""
    import zipfile

    with zipfile.ZipFile(tmp_path / 'carried-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr('carried.py', 'VALUE = 42\n')
        wheel.writestr('carried-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: carried\nVersion: 1.0\n')
        wheel.writestr('carried-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        wheel.writestr('carried-1.0.dist-info/RECORD', '')
    assert check.run(gpu_check.install(str(tmp_path), tmp_path))
    code = 'import json, carried, paif_mm; print(json.dumps({"value": carried.VALUE, "file": paif_mm.__file__}))'
    assert check.run(Step('use', 'Use', [python(code)], 30))
    assert check.results['use']['figures'] == {'value': 42, 'file': str(REPO / 'paif_mm' / '__init__.py')}


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--wheels', '{tmp}'], 'holds no wheels'),
        (['--out', '{tmp}/file/here'], 'can not be made'),
        (['--out', '{tmp}/out'], 'torch finds no GPU here; --rehearse runs on a CPU'),
    ],
)
def test_what_can_not_run_is_told(tmp_path, args, message, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setattr(gpu_check, 'DEVICE', 'print(\'{"device": "none"}\')')
    with pytest.raises(SystemExit, match=message):
        gpu_check.main([arg.format(tmp=tmp_path) for arg in args])


def test_what_an_earlier_check_left_is_no_result_of_this_one(tmp_path, monkeypatch, capsys):
    """The command twice: the second time, the training writes nothing."""
    monkeypatch.setattr(gpu_check, 'DEVICE', 'print(\'{"device": "none"}\')')

    def steps_of(code: str):
        def steps(args, out):
            for step in gpu_check.training(args, out, out / 'scenes'):
                yield step._replace(commands=[python(code.format(out=out))])

        return steps

    log = '{{"loss": 2.5, "iter": 7}}\\n'
    scores = '{{"results": {{"clean": {{"metrics": {{"mIoU": 40.0, "IoU/car": 3.0}}}}}}}}'
    works = f"""
import pathlib
def write(name, text):
    path = pathlib.Path('{{out}}') / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
write('training/1/vis_data/scalars.json', '{log}')
write('training/last_checkpoint', 'iter_7.pth')
write('attacked/1/results.json', '{scores}')
write('attacked/old.py', '')
"""
    command = ['--out', str(tmp_path), '--rehearse', '--minutes', '2', '--reserve', '1']
    monkeypatch.setattr(gpu_check, 'FOR_TEST', 1)
    monkeypatch.setattr(gpu_check, 'chosen', steps_of(works))
    assert gpu_check.main(command) == 0
    steps, _ = saved(tmp_path)
    assert steps['training']['figures'] == {'checkpoint': 'iter_7.pth', 'loss': 2.5, 'of iteration': 7}
    assert steps['attacked']['figures'] == {'mIoU, clean': 40.0}
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine.log').write_text('not of a check')

    monkeypatch.setattr(gpu_check, 'chosen', steps_of('pass'))
    assert gpu_check.main(command) == 1
    steps, page = saved(tmp_path)
    assert (steps['training']['status'], steps['training']['why']) == ('failed', 'it wrote no checkpoint')
    assert 'attacked' not in steps
    assert 'iter_7' not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == (
        ['device.log', 'device.txt', 'gpu_check.json', 'gpu_check.md', 'mine', 'mine.log', 'training.log']
        + ['training.txt']
    )


@pytest.mark.parametrize('folder', gpu_check.FOLDERS)
@pytest.mark.parametrize('report', [None, '{"steps": ', '{"steps": ["training"]}', 'others', 'skipped'])
def test_folders_that_no_check_has_made_are_left_alone(tmp_path, folder, report):
    """Neither where there is no report, nor where it names other steps only, or one for which no time was left."""
    step = gpu_check.FOLDERS[folder]
    if report in ('others', 'skipped'):
        names = {'device', *gpu_check.FOLDERS.values()} - ({step} if report == 'others' else set())
        steps = {name: {'status': 'skipped' if name == step else 'passed'} for name in names}
        report = json.dumps({'steps': steps})
    if report is not None:
        (tmp_path / 'gpu_check.json').write_text(report)
        (tmp_path / 'device.log').touch()
    (tmp_path / folder).mkdir()
    (tmp_path / folder / 'precious').touch()
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(SystemExit, match=f'holds {folder}, and no gpu_check.json says that a check made it'):
        gpu_check.main(['--out', str(tmp_path), '--rehearse', '--minutes', '0.01'])
    assert sorted(tmp_path.rglob('*')) == before


def test_of_several_folders_one_that_is_foreign_keeps_all(tmp_path):
    (tmp_path / 'gpu_check.json').write_text(
        '{"steps": {"device": {"status": "passed"}, "scenes": {"status": "passed"}}}'
    )
    for folder in ('scenes', 'training'):
        (tmp_path / folder).mkdir()
    with pytest.raises(SystemExit, match='holds training, and no'):
        gpu_check.clear(tmp_path)
    assert (tmp_path / 'scenes').is_dir()
    (tmp_path / 'training').rmdir()
    gpu_check.clear(tmp_path)
    assert not (tmp_path / 'scenes').exists()


def test_every_folder_that_steps_write_to_is_known_and_whose_it_is(tmp_path):
    """The first step whose commands name a folder makes it."""
    (tmp_path / 'training').mkdir()
    (tmp_path / 'training' / 'last_checkpoint').write_text('iter_7.pth')
    (tmp_path / 'some.whl').touch()
    makers = {}
    for step in [gpu_check.install(str(tmp_path), tmp_path), *gpu_check.steps(gpu_check.parse_args([]), tmp_path)]:
        for word in (str(word) for command in step.commands for word in command):
            if f'{tmp_path}/' in word:
                makers.setdefault(word.split(f'{tmp_path}/')[1].split('/')[0], step.name)
    del makers['some.whl']
    assert makers == gpu_check.FOLDERS


REACHED = {'training/last_checkpoint': 'iter_1.pth'}
LOG, SCORES = 'training/1/vis_data/scalars.json', 'attacked/1/results.json'


@pytest.mark.parametrize(
    ('step', 'files', 'why'),
    [
        ('training', {}, 'it wrote no checkpoint'),
        ('training', REACHED, r'there is no training/\*/vis_data/scalars.json'),
        ('training', REACHED | {LOG: '{"lo\n{"loss": 2.0, "iter": 1}\n'}, 'what it found can not be read: JSONDecode'),
        ('training', REACHED | {LOG: '{"loss": "much"}\n'}, 'what it found can not be read: TypeError'),
        ('training', REACHED | {LOG: '{"loss": 2.0}\n'}, 'what it found can not be read: KeyError'),
        ('attacked', REACHED, r'there is no attacked/\*/results.json'),
        ('attacked', REACHED | {SCORES: '{"results": {"cl'}, 'what it found can not be read: JSONDecodeError'),
        ('attacked', REACHED | {SCORES: '{}'}, 'what it found can not be read: KeyError'),
        ('attacked', REACHED | {SCORES: '[]'}, 'what it found can not be read: TypeError'),
        ('attacked', REACHED | {SCORES: '{"results": []}'}, 'what it found can not be read: AttributeError'),
        ('attacked', REACHED | {f'{SCORES}/folder': ''}, 'what it found can not be read: IsADirectoryError'),
    ],
)
def test_what_can_not_be_read_fails_its_step_alone(check, tmp_path, step, files, why):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {it.name: it for it in gpu_check.training(gpu_check.parse_args([]), tmp_path, tmp_path)}[step]
    assert not check.run(found._replace(commands=[python('')], limit=30, leaves=0))
    assert check.run(Step('good', 'Good', [python('print("{}")')], 30))
    result = saved(tmp_path)[0][step]
    assert result['status'] == 'failed'
    assert re.match(why, result['why'])


@pytest.mark.parametrize(
    ('said', 'found'),
    [
        ('1 failed, 58 passed in 3 s', {'failed': 1, 'passed': 58}),
        ('2 errors in 3 s', {}),
        ('', {}),
    ],
)
@pytest.mark.parametrize(
    ('end', 'outcome'),
    [
        ('raise SystemExit("killed by a test")', ('failed', 'killed by a test')),
        ('import time; time.sleep(60)', ('stopped', 'it took more than 2 s')),
    ],
)
def test_what_had_been_found_is_kept_whatever_the_end(check, tmp_path, monkeypatch, said, found, end, outcome):
    """The counts of tests of which one failed; the status and its reason are the process's."""
    monkeypatch.setattr(gpu_check, 'LEAST', 0)
    monkeypatch.setattr(gpu_check, 'GRACE', 1)
    step = gpu_check.gpu_tests(collect=False)._replace(limit=30 if outcome[0] == 'failed' else 2)
    assert not check.run(step._replace(commands=[python(f'print({said!r}, flush=True); {end}')]))
    steps, page = saved(tmp_path)
    assert (steps['tests']['status'], steps['tests']['why']) == outcome
    assert steps['tests']['figures'] == found
    assert ('| passed | 58 |' in page) == bool(found)


@pytest.mark.parametrize('error', [FailedError, OSError, ValueError, KeyError, TypeError, AttributeError])
def test_a_step_that_failed_does_so_for_its_own_reason(check, tmp_path, error):
    def figures(said):
        raise error('nothing there')

    assert not check.run(Step('bad', 'Bad', [python('raise SystemExit("no room")')], 30, figures=figures))
    result = saved(tmp_path)[0]['bad']
    assert (result['status'], result['why'], result['figures']) == ('failed', 'no room', {})


def test_a_figure_that_is_no_number_is_not_known(check, tmp_path):
    assert check.run(Step('speed', 'Speed', [python('print(\'{"a": NaN, "b": null, "c": -Infinity, "d": 2.0}\')')], 30))
    steps, page = saved(tmp_path)
    assert steps['speed']['figures'] == {'a': None, 'b': None, 'c': None, 'd': 2.0}
    assert '| a | not known |\n| b | not known |\n| c | not known |\n| d | 2 |' in page


def test_of_several_runs_the_latest_counts_whatever_its_name(tmp_path):
    for name, iteration, age in (('9_old', 1, 100), ('10_new', 2, 0)):
        log = tmp_path / name / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(f'{{"loss": 1.5, "iter": {iteration}}}\n{{"loss": 1.')  # cut off while it was being written
        os.utime(log, (1e9 - age, 1e9 - age))
    assert gpu_check.last_loss(tmp_path) == {'loss': 1.5, 'of iteration': 2}


@pytest.mark.parametrize(
    ('args', 'data', 'variables'),
    [
        ([], ['train_dataloader.dataset.data_root={out}/scenes'], None),
        (
            ['--train-config', 'configs/msrs_half/segformer_sat_msrs.py', '--data-root', '/d'],
            [],
            {'PAIF_MM_DATA': '/d'},
        ),
        (['--train-config', 'x.py', '--train-options', 'a.b=1'], ['a.b=1'], None),
    ],
)
def test_the_training_is_the_one_asked_for_and_tested_as_far_as_it_came(tmp_path, args, data, variables):
    asked = gpu_check.parse_args(args)
    steps = gpu_check.training(asked, tmp_path, tmp_path / 'scenes')
    training = next(steps)
    assert training.commands[0][2] == asked.train_config
    assert [word for word in map(str, training.commands[0]) if '=' in word and 'logger' not in word][:1] == [
        word.format(out=tmp_path) for word in data
    ]
    assert training.environments == (variables and [variables])
    (tmp_path / 'training').mkdir()
    (tmp_path / 'training' / 'last_checkpoint').write_text('iter_7.pth')
    tested = next(steps)
    assert tested.commands[0][2:4] == [asked.train_config, 'iter_7.pth']
    assert tested.environments == training.environments
    assert next(steps, None) is None


@pytest.mark.parametrize(
    ('words', 'names', 'reserve'),
    [
        (['tests', 'pgd'], ['tests', 'pgd'], 0),
        (['ranks'], ['scenes', 'ranks'], 0),
        (['training', 'hds'], ['scenes', 'hds', 'training', 'attacked'], 100),
    ],
)
def test_some_steps_alone(tmp_path, words, names, reserve):
    args = gpu_check.parse_args(['--steps', *words])
    (tmp_path / 'training').mkdir()
    (tmp_path / 'training' / 'last_checkpoint').write_text('iter_1.pth')
    assert [step.name for step in gpu_check.chosen(args, tmp_path)] == names
    assert args.reserve == reserve


def test_processes_of_tests_see_the_wheels_too(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', 'site')
    assert environment('more')['PYTHONPATH'].split(os.pathsep) == [str(REPO), 'more', 'site']
    own = [path for path in (REPO / 'tests').rglob('*.py') if "'PYTHONPATH'" in path.read_text()]
    assert {path.name for path in own} == {'conftest.py', Path(__file__).name}


def test_without_a_checkpoint_nothing_is_tested(tmp_path):
    (training,) = gpu_check.training(gpu_check.parse_args([]), tmp_path, tmp_path)
    with pytest.raises(FailedError, match='it wrote no checkpoint'):
        training.figures('')


@pytest.mark.parametrize('text', ['', '{"loss": 2.0, "it', '{"loss": NaN, "iter": 3}\n', '{"mIoU": 3.0, "step": 3}\n'])
def test_a_training_without_a_finite_loss_has_failed(tmp_path, text):
    log = tmp_path / 'training' / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 2.0, "iter": 1}\n')
    assert gpu_check.last_loss(tmp_path / 'training') == {'loss': 2.0, 'of iteration': 1}
    log.write_text(text)
    with pytest.raises(FailedError, match='no finite loss in the log of training'):
        gpu_check.last_loss(tmp_path / 'training')


@pytest.mark.slow
def test_the_rehearsal_passes(tmp_path):
    command = ['bash', str(REPO / 'tools' / 'gpu_check.sh'), '--rehearse', '--out', str(tmp_path), '--minutes', '60']
    env = {**environment(), 'PYTHON': sys.executable}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    steps, page = saved(tmp_path)
    assert {name: step['why'] for name, step in steps.items() if step['status'] != 'passed'} == {}
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(steps) == (
        ['device', 'scenes', 'tests', 'ranks', 'fusion', 'sat', 'hds', 'aat', 'pgd', 'evaluation', 'training']
        + ['attacked']
    )
    assert steps['tests']['figures']['collected'] >= 7
    assert {'sat_loss', 'hds_loss'} == set(steps['ranks']['figures'])
    assert {'forward_ratio', 'bf16_forward_ratio', 'bf16_forward_backward_ratio'} <= set(steps['fusion']['figures'])
    assert 'worst_overhead' in steps['sat']['figures']
    assert {'batch_1', 'batch_2'} == set(steps['evaluation']['figures'])
    assert steps['training']['figures']['checkpoint'].startswith('iter_')
    assert steps['training']['figures']['of iteration'] > 0
    assert {'mIoU, clean', 'mIoU, pgd5_eps4'} <= set(steps['attacked']['figures'])
    for name, step in steps.items():
        assert f'| {step["title"]} | passed |' in page, name


def test_forward_passes_of_the_benchmarks_mix_no_devices(monkeypatch):
    """On a GPU that is only pretended: no tensor is made or left on the CPU. (Backward passes need a real one.)"""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    for folder in ('benchmarks', 'tests/test_fusion'):
        monkeypatch.syspath_prepend(str(REPO / folder))
    import fusion_forward
    import search_step

    from paif_mm.fusion import FusionNet, FusionSupernet
    from paif_mm.losses import FusionLoss

    FusionNet(channels=4)  # reads genotypes and registries
    FusionLoss()(*torch.rand(3, 1, 1, 48, 64))  # makes its constants, if it keeps any
    monkeypatch.setattr(fusion_forward, 'prepared_device', lambda: torch.device('cuda'))
    monkeypatch.setattr(torch.nn.Module, 'to', lambda module, device: module)  # made there at once
    with FakeTensorMode(), torch.device('cuda'):
        forms, ir, vis = fusion_forward.build('48x64')
        for form in ('textbook', 'eager', 'bf16'):
            fused = fusion_forward.run_forward(forms[form], ir, vis)
            assert (fused.device.type, tuple(fused.shape)) == ('cuda', (1, 1, 48, 64))
        supernet = FusionSupernet(channels=4).train()
        pair = torch.rand(2, 2, 1, 32, 40)
        inputs = search_step.inputs_of_places(supernet, pair)
        assert {x.device.type for x in inputs.values()} == {'cuda'}
        assert len(inputs) == 6
        assert FusionLoss()(supernet(*pair), *pair).device.type == 'cuda'
        with pytest.raises(RuntimeError, match='same device'):  # what would be seen
            supernet(pair[0].to('cpu'), pair[1])


def test_ratios_of_what_can_not_be_measured_are_null(monkeypatch, capsys):
    """Memory that rose in one repetition of three only, or in none: of tiny images, both happen."""
    for folder in ('benchmarks', 'tests/test_fusion'):
        monkeypatch.syspath_prepend(str(REPO / folder))
    import fusion_forward

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    rises = itertools.cycle([0.0, 2.0, 2.0, 3.0, 0.0, 4.0])  # textbook, eager, in turns
    monkeypatch.setattr(fusion_forward, 'peak_memory', lambda: lambda: next(rises))
    args = SimpleNamespace(repeats=3, threads=1)
    times, memory = fusion_forward.report('two forms', {'textbook': list, 'eager': list}, args)
    assert memory['eager'] == 1.5
    assert 'MiB  x 1.500 1.500 1.500' in capsys.readouterr().out
    monkeypatch.setattr(fusion_forward, 'peak_memory', lambda: lambda: 0.0)
    monkeypatch.setattr(sys, 'argv', ['x', '--size', '16x24', '--repeats', '1', '--forms', 'eager'])
    fusion_forward.main()
    *_, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last, parse_constant=refuse)
    assert {name for name, value in figures.items() if value is None} == {
        'memory_ratio',
        'forward_backward_memory_ratio',
    }
    assert figures['forward_ratio'] > 0
