"""Patches and universal perturbations as users type them: learned, then tested."""

import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from test_tools import commands, test_detection
from test_tools.test_robustness import call, untrained


@pytest.fixture(scope='module')
def fused(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('fused')
    return untrained(commands.config_file(folder, synthetic_root, 'general'), folder)


def test_a_patch_is_learned_and_tested(fused, tmp_path, monkeypatch):
    physical = ['--blocks', '4', '--temperatures', '10', '40', '--camera', '0', '50', '--printable']
    flags = ['--size', '16', '--steps', '3', '--split', 'val', '--batch-size', '2', '--seed', '1']
    flags += ['--modality', 'both', '--scale', '0.2', '0.4', '--cfg-options', 'val_dataloader.num_workers=0']
    call(monkeypatch, 'learn_patch', *fused, '--out', tmp_path, *physical, *flags)
    patch = cv2.imread(str(tmp_path / 'patch.png'), cv2.IMREAD_UNCHANGED)
    assert patch.shape == (16, 16, 4)
    assert set(np.unique(patch[..., 3])) <= {51, 204}, '10 and 40 of 0 to 50 degrees'
    assert patch[..., :3].min() >= 25
    assert patch[..., :3].max() <= 230
    call(monkeypatch, 'test', *fused, '--attack', tmp_path / 'attack.py', '--work-dir', tmp_path / 'w')
    audit = commands.latest_results(tmp_path / 'w')['attack']['audit']
    assert audit['images'] == 4
    assert min(audit['max_delta_255'].values()) > 16


def test_a_patch_makes_objects_vanish(tmp_path, synthetic_root, monkeypatch):
    detector = untrained(test_detection.config_file(tmp_path, synthetic_root, 'general'), tmp_path)
    flags = ['--aim', 'vanishing', '--modality', 'vis', '--size', '8', '--steps', '2']
    call(monkeypatch, 'learn_patch', *detector, '--out', tmp_path / 'patch', *flags)
    patch = cv2.imread(str(tmp_path / 'patch' / 'patch.png'), cv2.IMREAD_UNCHANGED)
    assert patch.shape == (8, 8, 4)
    assert (patch[..., 3] == 127).all()
    assert len(np.unique(patch[..., :3])) > 8


def test_a_universal_perturbation_is_learned_and_part_of_a_worst_case(fused, tmp_path, monkeypatch):
    call(monkeypatch, 'learn_patch', *fused, '--out', tmp_path, '--universal', '4/255', '--steps', '3')
    fast = ['--suite', 'paper', '--eps', '4/255', '--bootstrap', '20', '--strips', '0', '--diagnostics', '0']
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'r', *fast, '--attack', tmp_path / 'attack.py')
    assert 'attack-4' in (tmp_path / 'r' / 'report.csv').read_text()
    assert 'worst case-4' in (tmp_path / 'r' / 'report.csv').read_text()


PATCH_ONLY = {
    '--size': ['64'],
    '--scale': ['0.2', '0.35'],
    '--printable': [],
    '--blocks': ['8'],
    '--temperatures': ['10', '40'],
    '--camera': ['0', '50'],
}


@pytest.mark.parametrize('flag', PATCH_ONLY)
def test_flags_that_would_do_nothing_are_refused(fused, tmp_path, monkeypatch, flag):
    """Also where they repeat the default."""
    given = ['--out', tmp_path, flag, *PATCH_ONLY[flag]]
    with pytest.raises(SystemExit, match=f'^{flag}: of a patch, not of --universal'):
        call(monkeypatch, 'learn_patch', *fused, *given, '--universal', '4/255')
    other = {'--printable': 'ir', '--blocks': 'vis', '--temperatures': 'vis', '--camera': 'vis'}.get(flag)
    if other:
        with pytest.raises(SystemExit, match=f'^{flag}: of .* patches, not of --modality {other}'):
            call(monkeypatch, 'learn_patch', *fused, *given, '--modality', other)


def test_mistakes_end_in_one_line(fused, tmp_path, monkeypatch):
    for flags, message in (
        (['--temperatures', '10', '40'], '--temperatures and --camera belong together'),
        (['--scale', '0.5', '0.2'], 'scale must be two shares'),
        (['--blocks', '80'], '--blocks 80 are more than the pixels of a side'),
        (['--aim', 'vanishing'], '--aim vanishing is for detectors'),
    ):
        with pytest.raises(SystemExit, match=message):
            call(monkeypatch, 'learn_patch', *fused, '--out', tmp_path, *flags)


HEAD = """dict(decode_head=dict(_delete_=True, type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1,
    concat_input=False, norm_cfg=dict(type='BN'), num_classes={classes}))"""


@pytest.fixture(scope='module')
def architectures(fused, tmp_path_factory):
    """SegFormer behind the fusion network, the same behind the average, and a convolutional head."""
    classes = Config.fromfile(fused[0]).model.decode_head.num_classes
    found = [fused]
    for name, model in (
        ('averaged', "dict(data_preprocessor=dict(fusion=dict(_delete_=True, type='AverageFusion')))"),
        ('fcn', HEAD.format(classes=classes)),
    ):
        folder = tmp_path_factory.mktemp(name)
        path = folder / f'{name}.py'
        path.write_text(f"_base_ = '{fused[0]}'\nmodel = {model}\n")
        found.append(untrained(path, folder))
    return found


def table(folder) -> dict:
    """(learned on, tested on) -> figure."""
    found = json.loads((folder / 'transfer.json').read_text())
    return {(cell['row'], cell['tested_on']): cell['value'] for cell in found['cells']}


def test_what_is_learned_on_several_architectures_is_tested_on_another(architectures, tmp_path, monkeypatch):
    """The table's cells are what the test tool finds."""
    first, second, held_out = architectures
    flags = ['--also', *second, '--tested-on', *held_out, '--each', '--steps', '2', '--batch-size', '2']
    call(monkeypatch, 'learn_patch', *first, '--out', tmp_path, '--universal', '16/255', *flags)
    found, both = table(tmp_path), 'general + averaged'
    rows = ['nothing', 'random values', both, 'general', 'averaged']
    assert list(found) == [(row, name) for row in rows for name in ('general', 'averaged', 'fcn')]
    for name, folder in (('general', '.'), ('averaged', 'averaged'), ('general', 'unlearned')):
        delta = np.load(tmp_path / folder / 'universal.npy')
        assert np.abs(delta).max() == pytest.approx(16 if folder == 'unlearned' else 3.2, rel=1e-3), name
    call(monkeypatch, 'test', *held_out, '--attack', tmp_path / 'attack.py', '--work-dir', tmp_path / 'w')
    results = commands.latest_results(tmp_path / 'w')
    assert found['nothing', 'fcn'] == pytest.approx(results['clean']['metrics']['mIoU'], abs=0.01)
    assert found[both, 'fcn'] == pytest.approx(results['attack']['metrics']['mIoU'], abs=0.01)
    page = (tmp_path / 'transfer.md').read_text()
    assert '| learned on | general | averaged | fcn |' in page
    cells = next(line for line in page.splitlines() if line.startswith(f'| {both}')).split('|')[2:-1]
    assert [cell.strip().startswith('(') for cell in cells] == [True, True, False], 'in the bank, in brackets'


def test_a_patch_is_learned_on_several_and_shown_to_others(architectures, tmp_path, monkeypatch):
    first, second, held_out = architectures
    flags = ['--also', *second, '--tested-on', *held_out, '--steps', '2', '--size', '8', '--limit', '2']
    call(monkeypatch, 'learn_patch', *first, '--out', tmp_path / 'both', *flags)
    call(monkeypatch, 'learn_patch', *first, '--out', tmp_path / 'one', '--steps', '2', '--size', '8')
    both, one = (cv2.imread(str(tmp_path / name / 'patch.png'), cv2.IMREAD_UNCHANGED) for name in ('both', 'one'))
    assert (both != one).mean() > 0.1, 'the second model has a say'
    found = table(tmp_path / 'both')
    assert len(found) == 3 * 3
    assert all(0 <= value <= 100 for value in found.values())
    assert found['nothing', 'fcn'] != found['random values', 'fcn']
    assert len(json.loads((tmp_path / 'both' / 'transfer.json').read_text())['images']) == 2


def test_mistakes_of_a_bank_end_in_one_line(fused, tmp_path, synthetic_root, monkeypatch):
    detector = untrained(test_detection.config_file(tmp_path, synthetic_root, 'general'), tmp_path)
    for flags, message in (
        (['--each'], '--each compares models of --also'),
        (['--limit', '2'], '--limit is of --tested-on'),
        (['--also', *detector], 'PixelLoss attacks segmentors, not FCOS'),
        (['--tested-on', *detector], 'PixelLoss attacks segmentors, not FCOS'),
        (['--also', tmp_path / 'none.py', detector[1]], r'none.py'),
    ):
        with pytest.raises(SystemExit, match=message):
            call(monkeypatch, 'learn_patch', *fused, '--out', tmp_path / 'out', *flags)
        assert not (tmp_path / 'out').exists()
