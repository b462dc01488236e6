"""The data set browser, on the synthetic data set's own config."""

import sys

import browse_dataset
import cv2
import numpy as np
import pytest
from conftest import REPO

from paif_mm.data.datasets import MFNET
from paif_mm.engine.strips import draw_legend

CONFIG = str(REPO / 'configs/_base_/datasets/synthetic.py')


@pytest.fixture
def browse(monkeypatch, synthetic_root, tmp_path):
    def call(*args, phase='val', config=CONFIG):
        options = ['--cfg-options', f'{phase}_dataloader.dataset.data_root={synthetic_root}']
        command = ['browse_dataset.py', config, '--output-dir', str(tmp_path), '--phase', phase, *args, *options]
        monkeypatch.setattr(sys, 'argv', command)
        browse_dataset.main()
        return {path.stem: cv2.imread(str(path)) for path in sorted(tmp_path.glob('*.png'))}

    return call


def test_strips_are_named_by_id_and_show_the_pair_beside_its_labels(browse, synthetic_root):
    strips = browse('--show-number', '3')
    assert list(strips) == (synthetic_root / 'val.txt').read_text().split()[:3]
    for name, strip in strips.items():
        pair = cv2.imread(str(synthetic_root / 'images' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        label = cv2.imread(str(synthetic_root / 'labels' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        infrared, visible, labels = (strip[-64:, 96 * i : 96 * (i + 1)] for i in range(3))
        assert np.array_equal(infrared, np.dstack([pair[..., 3]] * 3))
        assert np.array_equal(visible, pair[..., :3])
        changed = (labels != visible).any(2)
        assert not changed[label == 0].any()
        assert changed[label > 0].mean() > 0.9
        assert strip[:, 3 * 96 :].any(), 'the legend'


def test_the_training_pipeline_can_be_seen(browse):
    strips = browse('--mode', 'transformed', phase='train')
    assert len(strips) == 8
    for strip in strips.values():
        assert strip.shape[1] - draw_legend(**MFNET, height=len(strip)).shape[1] <= 3 * 128
    original = browse('--mode', 'original', phase='train')
    assert any(strips[name].shape != original[name].shape or (strips[name] != original[name]).any() for name in strips)


def test_pairs_without_labels_have_no_label_panel():
    pair = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    assert browse_dataset.draw_item({'img': pair}, {}).shape[1] == 2 * 50


def test_a_missing_config_is_named(browse):
    with pytest.raises(SystemExit, match='config nowhere.py does not exist'):
        browse(config='nowhere.py')
