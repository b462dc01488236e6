"""A stock mmseg config becomes a fused one, in a project with its own tools/train.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import mmcv
import mmseg
import pytest
import torch
from conftest import REPO, environment
from mmengine.config import Config
from mmengine.utils import digit_version, is_installed

CONFIG = REPO / 'configs' / 'dropin' / 'segformer_mit-b0_mfnet.py'


def test_the_docs_show_the_tested_config():
    assert CONFIG.read_text().strip() in (REPO / 'docs' / 'dropin.md').read_text()


def test_the_stock_parts_stay_what_they_were():
    stock = Config.fromfile(
        Path(mmseg.__file__).parent / '.mim/configs/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
    )
    fused = Config.fromfile(CONFIG)
    task = {key: value for key, value in fused.model.data_preprocessor.task.items() if key != '_scope_'}
    assert task == stock.data_preprocessor.to_dict()
    for part in ('backbone', 'train_cfg', 'test_cfg'):
        theirs = {key: value for key, value in fused.model[part].items() if key != '_scope_'}
        assert theirs.keys() == stock.model[part].keys()
    assert fused.optim_wrapper.optimizer.lr == stock.optim_wrapper.optimizer.lr


def run(project: Path, tool: str, *arguments: str) -> str:
    """Run one of mmseg's own tools in a project of its own; what it said."""
    shutil.copy(Path(mmseg.__file__).parent / '.mim' / 'tools' / tool, project / 'tools' / tool)
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', f'tools/{tool}', 'fused.py', *arguments],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def mmseg_itself_refuses_mmcv() -> bool:
    return hasattr(mmseg, 'mmcv_max_version') and digit_version(mmcv.__version__) >= mmseg.mmcv_max_version


@pytest.mark.slow
@pytest.mark.skipif(mmseg_itself_refuses_mmcv(), reason='mmseg and its tools refuse this mmcv unless paif_mm is there')
def test_a_foreign_project_trains_and_tests_it_with_mmsegs_own_tools(synthetic_root, tmp_path):
    project = tmp_path / 'project'
    (project / 'tools').mkdir(parents=True)
    text, configs = CONFIG.read_text(), Path(mmseg.__file__).parent / '.mim' / 'configs'
    if not is_installed('mmsegmentation'):  # onedl-mmengine finds no base by mmseg:: unless paif_mm is imported first
        text = text.replace('mmseg::', f'{configs}/')
    (project / 'fused.py').write_text(text)
    options = [f'{loader}_dataloader.dataset.data_root={synthetic_root}' for loader in ('train', 'val', 'test')]
    options += [f'{loader}_dataloader.num_workers=0' for loader in ('train', 'val', 'test')]
    options += [f'{loader}_dataloader.persistent_workers=False' for loader in ('train', 'val', 'test')]
    options += ['model.backbone.init_cfg=None', 'model.data_preprocessor.fusion.channels=4']
    options += ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    options += ['default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1']
    said = run(project, 'train.py', '--work-dir', 'run', '--cfg-options', *options)
    assert 'loss_fusion' in said
    assert 'mIoU' in said
    state = torch.load(project / 'run' / 'iter_2.pth', weights_only=False)['state_dict']
    prefixes = {key.split('.')[0] for key in state}
    assert prefixes == {'data_preprocessor', 'backbone', 'decode_head'}

    # That both tools' numbers are those of fused views is shown in tests/test_shipped/test_tta.py.
    said = run(project, 'test.py', 'run/iter_2.pth', '--tta', '--work-dir', 'tested', '--cfg-options', *options)
    assert 'mIoU' in said
    assert 'unexpected key' not in said, 'the weights of the fusion network have their place'
