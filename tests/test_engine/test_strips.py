"""What the strips show."""

import numpy as np
from helpers import pair_batch

from paif_mm.engine.strip_hook import prediction_panels
from paif_mm.engine.strips import CAPTION_HEIGHT, draw_legend, draw_strip, overlay_labels, paint_labels

PALETTE = [[0, 0, 0], [64, 0, 128]]


def test_labels_are_painted_in_their_colours_and_ignored_ones_grey():
    picture = paint_labels(np.array([[0, 1, 255]]), PALETTE)
    assert picture.tolist() == [[[0, 0, 0], [128, 0, 64], [128, 128, 128]]]  # BGR
    assert paint_labels(np.array([[0, 1]]), PALETTE, size=(4, 2)).shape == (2, 4, 3)


def test_a_strip_is_as_wide_as_its_panels():
    strip = draw_strip([('a', np.full((10, 40), 300.0)), ('b', np.zeros((10, 30, 3)))])
    assert strip.shape == (10 + CAPTION_HEIGHT, 70, 3)
    assert (strip[CAPTION_HEIGHT:, :40] == 255).all(), 'values beyond the range are clipped'
    assert draw_legend(['x', 'y'], PALETTE, 40).shape[0] == 40


def test_overlays_leave_the_background_and_mix_the_rest_half_and_half():
    image = np.full((1, 2, 3), 100.4)
    palette = [[0, 0, 0], [200, 0, 50]]
    assert overlay_labels(image, np.array([[0, 1]]), palette, ('unlabeled', 'car')).tolist() == [
        [[100, 100, 100], [75, 50, 150]]  # BGR
    ]
    assert overlay_labels(image, np.array([[0, 1]]), palette, ('road', 'car'))[0, 0].tolist() == [50, 50, 50]
    assert overlay_labels(np.zeros((4, 6, 3)), np.array([[0, 1]]), palette)[:, 3:].all(axis=(0, 1)).tolist() == [
        True,
        False,
        True,
    ]


def test_segmentations_have_a_legend_beside_them():
    sample = pair_batch([(24, 30)])['data_samples'][0]
    clean, meta = np.zeros((24, 30, 4)), {'palette': PALETTE * 5, 'classes': tuple('abcdefghij')}
    *_, (name, legend) = prediction_panels(clean, clean, None, sample, meta)
    assert name == 'classes'
    np.testing.assert_array_equal(legend, draw_legend(meta['classes'], meta['palette'], 24))


def panels(attacked, **kwargs):
    sample = pair_batch([(8, 10)])['data_samples'][0]
    clean = np.full((8, 10, 4), 100.0)
    return dict(
        prediction_panels(clean, clean + attacked, np.zeros((8, 10, 3)), sample, {'palette': PALETTE * 5}, **kwargs)
    )


def test_clean_strips_show_both_modalities_fused_and_truth():
    assert list(panels(0)) == ['infrared', 'visible', 'fused', 'truth']


def test_attacked_strips_add_the_amplified_perturbation():
    delta = np.zeros((8, 10, 4))
    delta[0, 0, 3] = -2
    drawn = panels(delta)
    assert list(drawn) == [
        'infrared',
        'visible',
        'infrared, attacked',
        'visible, attacked',
        'infrared, change x64',
        'visible, change x64',
        'fused',
        'truth',
    ]
    change = drawn['infrared, change x64']
    assert change[0, 0] == 1
    assert (change.flatten()[1:] == 128).all()
    assert panels(delta, amplify=10)['infrared, change x10'][0, 0] == 108


def test_images_without_infrared_get_one_panel():
    sample = pair_batch([(8, 10)])['data_samples'][0]
    image = np.zeros((8, 10, 3))
    names = [name for name, _ in prediction_panels(image, image, None, sample, {})]
    assert names == ['image']
