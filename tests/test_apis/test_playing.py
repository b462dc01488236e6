"""What the page of ``paif demo`` shows, without the page."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPO
from test_apis.test_inferencer import saved
from test_tools.commands import legend_width

from paif_mm.apis import PairInferencer
from paif_mm.apis.playing import (
    LEAST_HEIGHT,
    attack_of,
    attacks_with_radius,
    own_examples,
    read_upload,
    show_attack,
    show_prediction,
    stacked,
    synthetic_examples,
)

CONFIG = str(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory):
    weights = saved(CONFIG, tmp_path_factory.mktemp('weights') / 'w.pth')
    return PairInferencer(CONFIG, weights, 'cpu', show_progress=False)


@pytest.fixture(scope='module')
def example(tmp_path_factory) -> tuple[str, str]:
    return synthetic_examples(tmp_path_factory.mktemp('examples'), count=1, size=(48, 64))[0]


def test_panels_are_what_the_model_gets_and_says(inferencer, example):
    data, notes = read_upload(inferencer, *example, None, 640)
    shown = show_prediction(inferencer, data)
    factor = LEAST_HEIGHT // 48
    infrared, visible, fused, prediction = shown.panels
    assert not notes and shown.strip is None and not shown.losses
    assert {panel.shape for panel in shown.panels} == {(48 * factor, 64 * factor, 3)}
    np.testing.assert_array_equal(visible[::factor, ::factor], cv2.imread(example[0])[..., ::-1])
    np.testing.assert_array_equal(infrared[::factor, ::factor, 0], cv2.imread(example[1], cv2.IMREAD_GRAYSCALE))
    expected = inferencer(example, return_vis=True)
    np.testing.assert_allclose(fused[::factor, ::factor, ::-1].astype(int), expected['fused'][0], atol=1)
    drawn = expected['visualization'][0][:, :64]  # without the legend
    np.testing.assert_allclose(prediction[::factor, ::factor, ::-1].astype(int), drawn, atol=1)


def test_pairs_that_the_model_can_not_take_are_named(inferencer, tmp_path):
    (tiny,) = synthetic_examples(tmp_path, count=1, size=(3, 4))
    data, _ = read_upload(inferencer, *tiny, None, 640)
    for look in (
        lambda: show_prediction(inferencer, data),
        lambda: next(show_attack(inferencer, data, attack_of('pgd5', 6, 'ir'))),
    ):
        with pytest.raises(ValueError, match='^the pair, 3x4 .height x width., can not be passed through the model'):
            look()
    Path(tiny[0]).unlink()
    with pytest.raises(ValueError, match=r'^scene_1.png is not here any more: drop it again'):
        read_upload(inferencer, *tiny, None, 640)


def test_attacks_are_shown_step_by_step(inferencer, example, monkeypatch):
    monkeypatch.setattr('paif_mm.apis.playing.PAUSE', 0)
    data, _ = read_upload(inferencer, *example, None, 640)
    clean = show_prediction(inferencer, data).panels
    *steps, end = show_attack(inferencer, data, attack_of('pgd5', 6, 'ir'))
    assert [len(step.losses) for step in steps] == [1, 2, 3, 4, 5, 6]
    assert all(step.strip is None for step in steps) and end.losses == steps[-1].losses
    assert end.losses[-1] > end.losses[0]
    for step in (*steps, end):
        np.testing.assert_array_equal(step.panels[1], clean[1])  # visible
        assert 0 < np.abs(step.panels[0].astype(int) - clean[0]).max() <= 6
    assert end.strip.shape == (48 + 18, 10 * 64 + legend_width(48, inferencer.model.dataset_meta), 3)
    before, after = re.match(r'loss ([\d.]+) → ([\d.]+)\n[\d.]+% of the pixels', end.told).groups()
    assert float(before) < float(after)


def test_attacks_of_the_page_take_a_radius_and_a_modality():
    known = attacks_with_radius()
    assert {'pgd5', 'fgsm', 'apgd100', 'segpgd20', 'tog20_vanishing'} <= known.keys()
    assert not any('_eps' in name or name.endswith(('_ir', '_vis')) for name in known)
    assert attack_of('fgsm', 8, 'both')['step_size'] == pytest.approx(8 / 255)
    assert attack_of('pgd5', 8, 'vis')['eps'] == {'vis': 8 / 255, 'ir': 0}
    for wrong in ((-1, 'both'), (256, 'both'), (float('nan'), 'both'), (8, 'all')):
        with pytest.raises(ValueError, match='a radius is 0 to 255'):
            attack_of('pgd5', *wrong)


def test_an_attack_that_does_not_suit_the_model_is_refused_before_it_runs(inferencer, example):
    data, _ = read_upload(inferencer, *example, None, 640)
    with pytest.raises(TypeError, match='detector'):
        next(show_attack(inferencer, data, attack_of('tog20_vanishing', 8, 'both')))


def test_uploads_are_bounded_aligned_and_named(inferencer, example, tmp_path):
    data, notes = read_upload(inferencer, *example, None, 32)
    assert data['inputs'].shape == (4, 24, 32)
    assert data['data_samples'].ori_shape == (24, 32)
    assert notes == ['48x64 pixels were shrunk to 24x32']

    thermal = np.linspace(7000, 9000, 24 * 32).reshape(24, 32).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'thermal.tif'), thermal)
    with pytest.raises(ValueError, match='align="resize"'):
        read_upload(inferencer, example[0], str(tmp_path / 'thermal.tif'), None, 640)
    data, notes = read_upload(inferencer, example[0], str(tmp_path / 'thermal.tif'), 'resize', 640)
    assert data['inputs'].shape == (4, 48, 64)
    assert data['inputs'][3].min() <= 2 and data['inputs'][3].max() >= 253
    assert 'ir_range=' in notes[0]

    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(ValueError, match='^text.png is no image that can be read'):
        read_upload(inferencer, str(tmp_path / 'text.png'), example[1], None, 640)
    cv2.imwrite(str(tmp_path / 'huge.png'), np.zeros((4100, 4000), np.uint8))
    with pytest.raises(ValueError, match=r'^huge.png has 4100x4000 pixels, more than 16 million'):
        read_upload(inferencer, example[0], str(tmp_path / 'huge.png'), None, 640)


def test_examples_are_copies(example, tmp_path):
    day, night = synthetic_examples(tmp_path / 'synthetic', count=2)
    assert cv2.imread(day[0]).mean() > 2 * cv2.imread(night[0]).mean()
    (copy,) = own_examples(tmp_path / 'own', *example)
    assert [Path(one).read_bytes() for one in copy] == [Path(one).read_bytes() for one in example]
    assert all(one.startswith(str(tmp_path / 'own')) for one in copy)
    assert own_examples(tmp_path / 'alone', day[0], None)[0][1] is None
    video = cv2.VideoWriter(str(tmp_path / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (32, 32))
    video.write(np.zeros((32, 32, 3), np.uint8))
    video.release()
    with pytest.raises(TypeError, match='not videos or cameras'):
        own_examples(tmp_path / 'video', *[str(tmp_path / 'a.avi')] * 2)


def test_strips_of_two_models_are_one_picture():
    wide, narrow = np.full((3, 5, 3), 9, np.uint8), np.full((2, 4, 3), 7, np.uint8)
    both = stacked([wide, narrow])
    assert both.shape == (5, 5, 3)
    assert (both[:3] == 9).all() and (both[3:, :4] == 7).all() and (both[3:, 4] == 0).all()
