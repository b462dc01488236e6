"""A released checkpoint, converted and tested by the commands of docs/configs.md."""

import pytest
import torch
from test_fusion.fusion_nets import network
from test_fusion.released_segformer import SegFormer
from test_fusion.test_paif_release import released_checkpoint
from test_tools.test_end_to_end import latest_results, run


@pytest.mark.slow
def test_a_released_checkpoint_is_converted_and_tested(synthetic_root, tmp_path):
    """Full size, with the released names and random weights: every weight is used, no other is missing."""
    torch.manual_seed(0)
    segformer = SegFormer([64, 128, 320, 512], [1, 2, 5, 8], [3, 4, 18, 3], decoder_width=256, classes=9)
    torch.save(released_checkpoint(segformer, network(dtype=torch.float32)), tmp_path / 'released.pth')
    done = run('model_converters/paif_release.py', tmp_path / 'released.pth', tmp_path / 'ours.pth')
    assert 'left out as unused' in done.stdout
    options = [f'test_dataloader.dataset.data_root={synthetic_root}', 'test_dataloader.dataset.ann_file=val.txt']
    options += ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
    config = 'configs/paif/segformer_released_mfnet.py'
    done = run('test.py', config, tmp_path / 'ours.pth', '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    console = done.stdout + done.stderr
    assert 'do not match exactly' not in console
    assert 'missing keys' not in console
    assert latest_results(tmp_path / 'run')['clean']['metrics']['mIoU'] >= 0
