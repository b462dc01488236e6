"""What watches trainings gets pictures, not only numbers: TensorBoard's event file and W&B's folder are read back."""

import cv2
import numpy as np
import pytest
from conftest import REPO
from mmengine.config import Config
from test_tools.commands import CONFIG, legend_width

from paif_mm.engine.runner import QuietRunner


@pytest.fixture
def train(synthetic_root, tmp_path):
    """Train for two iterations and validate after each, with a visualizer's backends."""

    def run(*backends: dict, tested: bool = False, **hook) -> list[str]:
        path = tmp_path / 'config.py'
        path.write_text(CONFIG.format(repo=REPO, kind='general', data=synthetic_root, iters=2))
        config = Config.fromfile(path)
        config.visualizer.vis_backends = [{'type': 'LocalVisBackend'}, *backends]
        config.visualizer.name = tmp_path.name  # one of that name serves all runners of a process
        config.train_cfg.val_interval, config.work_dir = 1, str(tmp_path / 'run')
        config.default_hooks.logger.interval = 1
        config.default_hooks.visualization.update(hook)
        runner = QuietRunner.from_cfg(config)
        runner.train()
        if tested:
            runner.test()
        runner.visualizer.close()
        return sorted((synthetic_root / 'val.txt').read_text().split())

    return run


def test_tensorboard_gets_strips_of_every_validation(train, synthetic_root, tmp_path):
    accumulators = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator', reason='no tensorboard: pip install tensorboard'
    )
    names = train({'type': 'TensorboardVisBackend'}, tested=True, logged=3)
    (folder,) = {path.parent for path in tmp_path.rglob('events.out.tfevents*')}
    events = accumulators.EventAccumulator(str(folder), {'images': 0, 'scalars': 0})
    events.Reload()
    tags = events.Tags()
    assert tags['images'] == [f'val/{name}' for name in names[:3]] + [f'test/{name}' for name in names[:3]]
    assert {'loss', 'mIoU'} <= {*tags['scalars']}
    images = events.Images(f'val/{names[0]}')
    assert [image.step for image in images] == [1, 2]
    strip = cv2.imdecode(np.frombuffer(images[0].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert strip.shape == (64 + 18, 5 * 96 + legend_width(64), 3)
    visible = strip[18:, 96:192]
    scene = cv2.imread(str(next(synthetic_root.rglob(f'images/{names[0]}.png'))))
    np.testing.assert_array_equal(visible, scene)  # in its own colours
    assert not list(tmp_path.rglob('strips')), 'nothing is written to the disk unless drawing is on'


@pytest.mark.slow
def test_weights_and_biases_gets_strips_of_every_validation(train, tmp_path, monkeypatch):
    pytest.importorskip('wandb', reason='no wandb: pip install wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    names = train({'type': 'WandbVisBackend', 'init_kwargs': {'mode': 'offline'}})
    pictures = list(tmp_path.rglob('media/images/val/*.png'))
    for name in names:
        assert len([path for path in pictures if path.name.startswith(name)]) == 2
