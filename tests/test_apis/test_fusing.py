"""Fused images alone."""

import cv2
import numpy as np
import pytest
import torch
from conftest import REPO
from helpers import build_model
from mmengine.config import Config
from test_apis.test_inferencer import saved

from paif_mm.apis import FusionInferencer
from paif_mm.apis.attack_command import attack
from paif_mm.apis.command import fuse, predict
from paif_mm.data.synthetic import render_scene
from paif_mm.fusion import FusionNet

CONFIG = str(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')
NET = {'type': 'FusionNet', 'channels': 4}


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (70, 90, 3), np.uint8), rng.integers(0, 256, (70, 90), np.uint8)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'n.pth'
    torch.manual_seed(0)
    torch.save({'state_dict': FusionNet(channels=4).state_dict()}, path)
    return str(path)


def test_the_average_is_the_average(pair):
    visible, infrared = pair
    fuser = FusionInferencer({'type': 'AverageFusion'}, show_progress=False)
    (grey,), (deep,) = (fuser(pair, colour=False, bits=bits)['fused'] for bits in (8, 16))
    luma = visible.astype(float) @ [0.114, 0.587, 0.299]
    np.testing.assert_allclose(grey, (luma + infrared) / 2, atol=0.51)
    np.testing.assert_allclose(deep, (luma + infrared) / 2 * 257, atol=0.51)
    assert (grey.dtype, deep.dtype) == (np.uint8, np.uint16)
    (colour,) = fuser(pair)['fused']
    assert colour.shape == visible.shape


def test_tiles_equal_the_whole_up_to_a_grey_level(weights):
    rng = np.random.default_rng(0)
    coarse = rng.random((8, 10, 4)).astype(np.float32)
    image = cv2.resize(coarse, (300, 240), interpolation=cv2.INTER_CUBIC) * 200 + rng.random((240, 300, 4)) * 55
    image = np.clip(image, 0, 255).astype(np.float32)
    fuser = FusionInferencer(NET, weights)
    whole, tiled = fuser.fuse(image, colour=False, bits=16), fuser.fuse(image, colour=False, bits=16, tile=100)
    apart = np.abs(whole.astype(float) - tiled) / 257
    assert apart.max() < 1
    assert apart.max() > 0  # there were tiles


@pytest.mark.parametrize(('name', 'most'), [('segformer_synthetic', 0.82), ('segformer_sat_synthetic', 1.12)])
def test_tiles_of_the_shipped_networks_are_as_near_as_the_docs_say(name, most):
    scene, _, _ = render_scene(np.random.default_rng(0), (300, 400), night=False)
    fuser = FusionInferencer(f'paif_mm://{name}', device='cpu', show_progress=False)
    whole, tiled = (fuser.fuse(scene, colour=False, bits=16, tile=tile).astype(float) / 257 for tile in (None, 100))
    assert np.abs(whole - tiled).max() == pytest.approx(most, abs=0.05)


def test_the_network_of_a_whole_model_is_taken(pair, tmp_path):
    model = build_model(Config.fromfile(CONFIG).model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'w.pth')
    fuser = FusionInferencer(CONFIG, str(tmp_path / 'w.pth'), 'cpu')
    (fused,) = fuser(pair)['fused']
    stacked = torch.from_numpy(np.dstack(pair).transpose(2, 0, 1).copy())
    with torch.no_grad():
        (expected,) = model.eval().data_preprocessor.fuse([stacked])
    np.testing.assert_allclose(fused, expected.permute(1, 2, 0), atol=0.51)


def test_wrong_settings_are_named(pair, weights):
    with pytest.raises(ValueError, match='FusionNet has parameters: give weights'):
        FusionInferencer(NET)
    fuser = FusionInferencer(NET, weights)
    with pytest.raises(ValueError, match='bits must be 8 or 16'):
        fuser(pair, bits=12)
    with pytest.raises(ValueError, match='tile must be a number of pixels'):
        fuser(pair, tile=0)


def test_the_command_fuses_folders(tmp_path, capsys):
    torch.save({'state_dict': build_model(Config.fromfile(CONFIG).model).state_dict()}, tmp_path / 'w.pth')
    for name, shape in (('rgb', (20, 24, 3)), ('ir', (20, 24))):
        (tmp_path / name).mkdir()
        for index in range(2):
            cv2.imwrite(str(tmp_path / name / f'{index}.png'), np.full(shape, 90, np.uint8))
    folders = ['--visible', str(tmp_path / 'rgb'), '--infrared', str(tmp_path / 'ir'), '--out', str(tmp_path / 'out')]
    assert fuse([CONFIG, str(tmp_path / 'w.pth'), *folders, '--grey', '--bits', '16', '--tile', '16']) == 0
    assert '2 pairs' in capsys.readouterr().out
    written = cv2.imread(str(tmp_path / 'out' / '0.png'), cv2.IMREAD_UNCHANGED)
    assert written.shape == (20, 24) and written.dtype == np.uint16


def test_own_images_are_not_overwritten(tmp_path, pair, monkeypatch):
    saved(CONFIG, tmp_path / 'w.pth')
    monkeypatch.chdir(tmp_path)
    for name, image in zip(('vis', 'ir'), pair, strict=True):
        (tmp_path / name).mkdir()
        cv2.imwrite(f'{name}/0.png', image)
    words = [CONFIG, 'w.pth', '--visible', 'vis', '--infrared', 'ir', '--device', 'cpu']
    for run, out in ((fuse, 'vis'), (fuse, 'ir'), (attack, 'vis'), (attack, 'ir'), (predict, 'vis'), (predict, '.')):
        with pytest.raises(SystemExit, match='written beside .*0.png, which is an input'):
            run([*words, '--out', out])
    for name, image in zip(('vis', 'ir'), pair, strict=True):
        np.testing.assert_array_equal(cv2.imread(f'{name}/0.png', cv2.IMREAD_UNCHANGED), image)
        assert [path.name for path in (tmp_path / name).iterdir()] == ['0.png']
