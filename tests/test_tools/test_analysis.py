"""mmseg's and mmdet's own analysis tools on what our tools leave behind, by paif mim."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from conftest import REPO, environment
from test_tools import test_detection
from test_tools.commands import config_file, run

from paif_mm.compat.tools import find_tool

pytestmark = pytest.mark.slow
RESULTS = """
test_evaluator = [*_base_.test_evaluator, dict(type='DumpDetResults', out_file_path='{path}')]
"""


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory, synthetic_root):
    """Config, work dir and predictions, clean and attacked, of a short training."""
    folder = tmp_path_factory.mktemp('segmentor')
    config = config_file(folder, synthetic_root, 'general')
    run('train.py', config, '--work-dir', folder / 'run')
    args = ['--attack', 'pgd5_eps8', '--out', folder / 'predictions', '--work-dir', folder / 'test']
    run('test.py', config, folder / 'run' / 'iter_6.pth', *args)
    return config, folder


@pytest.fixture(scope='module')
def detector(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('detector')
    extra = RESULTS.format(path=folder / 'results.pkl')
    config = test_detection.config_file(folder, synthetic_root, 'general', extra=extra)
    run('train.py', config, '--work-dir', folder / 'run')
    run('test.py', config, folder / 'run' / 'iter_4.pth', '--work-dir', folder / 'test')
    return config, folder


def analysis(library: str, tool: str, *words) -> str:
    """What a tool of a library says."""
    command = [sys.executable, '-W', 'ignore', '-m', 'paif_mm.command', 'mim', library, tool, *map(str, words)]
    env = {**environment(), 'MPLBACKEND': 'agg'}
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def log_of(folder: Path) -> Path:
    (path,) = (folder / 'run').glob('*/vis_data/scalars.json')
    return path


def test_curves_are_drawn_of_our_logs(segmentor, detector, tmp_path):
    pytest.importorskip('seaborn', reason="mmseg's and mmdet's analyze_logs need seaborn")
    told = analysis(
        'mmseg', 'analyze_logs', log_of(segmentor[1]), '--keys', 'loss_fusion', 'mIoU', '--out', tmp_path / 'a.png'
    )
    assert 'metric is loss_fusion' in told and 'metric is mIoU' in told
    analysis(
        'mmdet', 'analyze_logs', 'plot_curve', log_of(detector[1]), '--keys', 'loss_fusion', '--out', tmp_path / 'b.png'
    )
    assert all(cv2.imread(str(tmp_path / name)).std() > 1 for name in ('a.png', 'b.png'))


@pytest.mark.parametrize('run_name', ['clean', 'pgd5_eps8'])
def test_confusions_are_drawn_of_our_class_maps(segmentor, tmp_path, run_name):
    config, folder = segmentor
    analysis('mmseg', 'confusion_matrix', config, folder / 'predictions' / run_name, tmp_path)
    assert cv2.imread(str(tmp_path / 'confusion_matrix.png')).std() > 1


def test_confusions_are_drawn_of_our_boxes(detector, tmp_path):
    config, folder = detector
    analysis('mmdet', 'confusion_matrix', config, folder / 'results.pkl', tmp_path, '--score-thr', '0')
    assert cv2.imread(str(tmp_path / 'confusion_matrix.png')).std() > 1


def test_pairs_with_boxes_are_browsed(detector, tmp_path):
    """mmseg's own fails on any image where OpenCV refuses the layout that it draws on; paif browse does both."""
    analysis('mmdet', 'browse_dataset', detector[0], '--output-dir', tmp_path, '--not-show')
    assert len(list(tmp_path.iterdir())) == 8
    assert all(cv2.imread(str(path)).ndim == 3 for path in tmp_path.iterdir())


def test_a_tool_that_is_not_there_is_told():
    with pytest.raises(FileNotFoundError, match='did you mean confusion_matrix'):
        find_tool('mmseg', 'confusion_matrx')
