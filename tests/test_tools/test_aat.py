"""Adaptive adversarial training as users type it: source, bank, meta-initialisation, training."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import REPO
from test_tools.commands import config_file, environment, run, weights

from paif_mm.compat import load_checkpoint_file

SMALL = """
custom_hooks = [
    dict(type='paif_mm.AATMetaInitHook', bank='{bank}', iters=3, inner_steps=1, inner_lr=1e-2, warm_start_iters=2,
         batch_size=2, crop_size=(48, 64), num_workers=0, log_interval=1, save_interval=1),
    dict(type='paif_mm.FusionLossHook'),
    dict(type='paif_mm.AdversarialAttackHook', attack=dict(type='PGD', eps=4 / 255, steps=1, keep='last'), ratio=0.5),
]
"""


@pytest.fixture(scope='module')
def source(tmp_path_factory, synthetic_root):
    """Config and checkpoint of a source model of two iterations."""
    folder = tmp_path_factory.mktemp('source')
    config = config_file(folder, synthetic_root, 'source', iters=2)
    run('train.py', config, '--work-dir', folder)
    return config, folder / 'iter_2.pth'


@pytest.fixture(scope='module')
def bank(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp('bank')
    return folder, run('craft_attacks.py', *source, folder, '--num', 4, '--steps', 2, '--victim', *source)


@pytest.fixture(scope='module')
def trained(bank, synthetic_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('aat')
    config = config_file(folder, synthetic_root, 'aat', iters=2)
    config.write_text(config.read_text() + SMALL.format(bank=bank[0]))
    return config, folder / 'run', run('train.py', config, '--work-dir', folder / 'run')


def test_the_bank_is_made_and_its_transfer_printed(bank, source):
    folder, done = bank
    assert '4 pairs at 3 levels' in done.stdout
    for word in ('small', 'moderate', 'heavy', 'victim'):
        assert word in done.stdout
    again = run('craft_attacks.py', *source, folder, '--num', 4, '--steps', 2)
    assert '4 pairs at 3 levels' in again.stdout
    refused = run('craft_attacks.py', *source, folder, '--num', 3, '--steps', 2, check=False)
    assert 'holds a bank with other num: give another folder' in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_training_starts_from_theta_prime(trained):
    _, work_dir, done = trained
    console = done.stdout + done.stderr
    assert 'L_F before meta-initialisation' in console
    assert 'AAT meta [3/3]' in console
    assert 'AAT warm start [2/2]' in console
    assert "theta' written to" in console
    assert 'Iter(train) [2/2]' in console
    start = load_checkpoint_file(str(work_dir / 'theta_prime.pth'))['state_dict']
    end = weights(work_dir, 2)
    key = 'head.0.weight'
    assert not torch.equal(start[key], end[f'data_preprocessor.fusion.{key}']), 'training went on'
    assert (start[key] - end[f'data_preprocessor.fusion.{key}']).abs().max() < 0.05, 'from there'


@pytest.mark.parametrize(
    ('written', 'said'),
    [('meta_init.pth', 'meta-initialisation goes on'), ('theta_prime.pth', 'is taken up')],
    ids=['in the meta stage', 'after it, before the first checkpoint'],
)
def test_a_killed_run_resumes_as_if_nothing_had_happened(trained, tmp_path, written, said):
    config, uninterrupted, _ = trained
    command = [sys.executable, '-W', 'ignore', str(REPO / 'tools' / 'train.py'), str(config)]
    process = subprocess.Popen(
        [*command, '--work-dir', str(tmp_path)],
        cwd=REPO,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 120
    while not (tmp_path / written).exists():
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'iter_2.pth').exists()
    done = run('train.py', config, '--work-dir', tmp_path, '--resume')
    assert said in done.stdout + done.stderr
    assert ('AAT meta' in done.stdout + done.stderr) == (written == 'meta_init.pth')
    expected, resumed = weights(uninterrupted, 2), weights(tmp_path, 2)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    assert not (tmp_path / 'meta_init.pth').exists()


def test_a_missing_bank_is_one_clear_line(trained, tmp_path):
    text = trained[0].read_text().split('custom_hooks')[0] + SMALL.format(bank=tmp_path / 'no_bank')
    config = tmp_path / 'aat.py'
    config.write_text(text)
    done = run('train.py', config, '--work-dir', tmp_path / 'run', check=False)
    assert done.returncode != 0
    assert 'make or finish it with python tools/craft_attacks.py' in done.stderr
