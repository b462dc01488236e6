"""The tools as users type them, on a small synthetic set."""

import os
import re
import signal
import sys

import pytest
import torch
from conftest import REPO
from test_tools.commands import (
    config_file,
    environment,
    kill_after,
    latest_results,
    launch,
    legend_width,
    run,
    signal_after,
    weights,
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, synthetic_root):
    """A config and the work dir of an uninterrupted adversarial training of 6 iterations."""
    folder = tmp_path_factory.mktemp('trained')
    config = config_file(folder, synthetic_root)
    done = run('train.py', config, '--work-dir', folder / 'run')
    return config, folder / 'run', done


def test_training_logs_the_fusion_loss_and_a_readable_console(trained):
    _, work_dir, done = trained
    console = done.stdout + done.stderr
    assert 'loss_fusion' in console
    assert 'eta' in console
    assert len(console.splitlines()) < 120
    assert 'System environment' not in console
    (log,) = work_dir.glob('*/*.log')
    assert 'System environment' in log.read_text()


def test_training_moves_both_networks(trained):
    _, work_dir, _ = trained
    early, late = weights(work_dir, 4), weights(work_dir, 6)
    for prefix in ('data_preprocessor.fusion.ir.', 'backbone.', 'decode_head.'):
        moved = [not torch.equal(early[key], late[key]) for key in early if key.startswith(prefix)]
        assert sum(moved) > len(moved) / 2


def test_clean_and_attacked_tests_share_a_table(trained, tmp_path):
    config, work_dir, _ = trained
    attack = tmp_path / 'none.py'
    attack.write_text("attack = dict(type='PGD', eps=0)\n")
    args = [
        '--attack',
        'pgd5_eps8',
        attack,
        '--show-dir',
        tmp_path / 'strips',
        '--work-dir',
        tmp_path / 'run',
        '--fused-quality',
    ]
    done = run('test.py', config, work_dir / 'iter_6.pth', *args)
    results = latest_results(tmp_path / 'run')
    clean, attacked, nothing = results['clean'], results['pgd5_eps8'], results['none']
    assert nothing['metrics'] == clean['metrics'], 'eps = 0 must reproduce the clean metrics exactly'
    assert nothing['audit']['max_delta_255'] == {'ir': 0, 'vis': 0}
    assert attacked['audit']['loss_after'] > attacked['audit']['loss_before']
    assert attacked['audit']['max_delta_255'] == pytest.approx({'ir': 8, 'vis': 8}, abs=1e-3)
    assert attacked['audit']['model_unchanged']
    assert attacked['audit']['images'] == 4
    assert attacked['metrics'] != clean['metrics']
    assert 0 < clean['metrics']['fused/EN'] <= 8
    assert attacked['metrics']['fused/SSIM'] != clean['metrics']['fused/SSIM']
    assert 'mIoU (paper)' in done.stdout + done.stderr
    assert 'audit: 4 images, max |delta| ir 8.000/255' in done.stdout + done.stderr
    assert re.findall(r'^(\w+): 4 images$', done.stderr, re.MULTILINE) == ['clean', 'pgd5_eps8', 'none']
    lines = [line for line in done.stdout.splitlines() if line.startswith('| pgd5_eps8')]
    assert len(lines) > 1 and max(map(len, lines)) <= 120, 'figures of classes and of fused images, in parts'
    for folder, panels in (('clean', 5), ('pgd5_eps8', 9)):
        strips = sorted((tmp_path / 'strips' / folder).glob('*.png'))
        assert len(strips) == 4
        assert png_size(strips[0]) == (panels * 96 + legend_width(64), 64 + 18)


def png_size(path) -> tuple[int, int]:
    header = path.read_bytes()[16:24]
    return int.from_bytes(header[:4], 'big'), int.from_bytes(header[4:], 'big')


def test_a_killed_run_resumes_as_if_nothing_had_happened(trained, tmp_path):
    """SIGKILL after the second of three checkpoints; the resumed run ends with the same weights, bit for bit."""
    config, uninterrupted, _ = trained
    kill_after(4, config, tmp_path)
    done = run('train.py', config, '--work-dir', tmp_path, '--resume')
    assert 'resumed epoch: 0, iter: 4' in done.stdout + done.stderr
    expected, resumed = weights(uninterrupted, 6), weights(tmp_path, 6)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_a_run_that_is_told_to_stop_resumes_as_if_nothing_had_happened(trained, tmp_path):
    config, uninterrupted, _ = trained
    assert signal_after(2, signal.SIGUSR1, config, tmp_path) == 75
    stopped = int((tmp_path / 'last_checkpoint').read_text().split('iter_')[1].removesuffix('.pth'))
    assert 2 < stopped < 6
    done = run('train.py', config, '--work-dir', tmp_path, '--resume')
    assert f'resumed epoch: 0, iter: {stopped}' in done.stdout + done.stderr
    expected, resumed = weights(uninterrupted, 6), weights(tmp_path, 6)
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


@pytest.mark.slow
def test_resuming_starts_from_the_given_weights_and_goes_on_from_the_own_ones(trained, tmp_path):
    """With ``load_from``, as for fine-tuning: mmengine would take up the other training's iteration and optimizer."""
    config, other, _ = trained
    start = ['--cfg-options', f'load_from={other / "iter_6.pth"}']
    first = run('train.py', config, '--work-dir', tmp_path / 'a', *start)
    again = run('train.py', config, '--work-dir', tmp_path / 'b', '--resume', *start)
    assert 'Iter(train) [2/6]' in again.stdout + again.stderr, (first.stdout, again.stdout)
    expected, begun = weights(tmp_path / 'a', 6), weights(tmp_path / 'b', 6)
    assert all(torch.equal(expected[key], begun[key]) for key in expected), 'nothing to resume: as without the flag'
    assert any(not torch.equal(expected[key], weights(other, 6)[key]) for key in expected)
    kill_after(4, config, tmp_path / 'c', *start)
    done = run('train.py', config, '--work-dir', tmp_path / 'c', '--resume', *start)
    assert 'resumed epoch: 0, iter: 4' in done.stdout + done.stderr
    assert all(torch.equal(expected[key], weights(tmp_path / 'c', 6)[key]) for key in expected)


def test_two_processes_train_and_test(trained, synthetic_root, tmp_path):
    """Gloo on CPU through the launch scripts: both ranks hold the same weights, the test counts every image once."""
    config, work_dir, _ = trained
    script = [str(REPO / 'tools' / 'dist_train.sh'), str(config), '2', '--work-dir', str(tmp_path / 'run')]
    env = {**environment(), 'PORT': '29611', 'PATH': f'{os.path.dirname(sys.executable)}:{os.environ["PATH"]}'}
    launch(script, env)
    single, double = weights(work_dir, 6), weights(tmp_path / 'run', 6)
    assert single.keys() == double.keys()
    assert any(not torch.equal(single[key], double[key]) for key in single), 'two ranks see other batches'
    meta = torch.load(tmp_path / 'run' / 'iter_6.pth', weights_only=False)['meta']
    assert len(meta['random_states']) == 2
    script = [str(REPO / 'tools' / 'dist_test.sh'), str(config), str(tmp_path / 'run' / 'iter_6.pth'), '2']
    script += ['--attack', 'fgsm_eps4', '--work-dir', str(tmp_path / 'test')]
    launch(script, env)
    run('test.py', config, tmp_path / 'run' / 'iter_6.pth', '--attack', 'fgsm_eps4', '--work-dir', tmp_path / 'one')
    two, one = latest_results(tmp_path / 'test'), latest_results(tmp_path / 'one')
    assert two['clean']['metrics'] == one['clean']['metrics']
    assert two['fgsm_eps4']['audit']['images'] == one['fgsm_eps4']['audit']['images'] == 4
    assert two['fgsm_eps4']['metrics']['mIoU'] == pytest.approx(one['fgsm_eps4']['metrics']['mIoU'], abs=0.05)


@pytest.mark.gpu
def test_amp_trains(trained, tmp_path):
    config, _, _ = trained
    done = run('train.py', config, '--work-dir', tmp_path, '--amp', '--cfg-options', 'train_cfg.max_iters=2')
    assert 'loss_fusion' in done.stdout + done.stderr
    assert all(torch.isfinite(value).all() for value in weights(tmp_path, 2).values())


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['test.py', 'nowhere.py', 'x.pth'], 'config nowhere.py does not exist'),
        (['train.py', 'nowhere.py'], 'config nowhere.py does not exist'),
        (['test.py', '{config}', 'x.pth'], 'checkpoint x.pth does not exist'),
        (['test.py', '{config}', 'x.pth', '--attack', 'pgd5_eps4', '--tta'], '--tta and --attack exclude each other'),
        (['test.py', '{config}', '{run}/iter_6.pth', '--attack', 'pgd7'], 'attack pgd7 does not exist: .*pgd5_eps4'),
    ],
)
def test_bad_arguments_get_one_line(trained, args, message):
    tool, *rest = [arg.format(config=trained[0], run=trained[1]) for arg in args]
    done = run(tool, *rest, check=False)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(message, done.stderr)


def test_browse_dataset_draws_pairs_with_labels(trained, tmp_path):
    for mode, size in (('original', (96, 64)), ('transformed', (64, 48))):
        out = tmp_path / mode
        done = run('browse_dataset.py', trained[0], '--output-dir', out, '--show-number', 3, '--mode', mode)
        assert f'3 strips written to {out}' in done.stdout
        pictures = sorted(out.glob('*.png'))
        assert len(pictures) == 3
        assert png_size(pictures[0]) == (3 * size[0] + legend_width(size[1] + 18), size[1] + 18)
