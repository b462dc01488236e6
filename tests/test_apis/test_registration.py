"""Infrared images in the view of visible ones, against known maps."""

import json

import cv2
import numpy as np
import pytest

from paif_mm.apis.registration import Registration, checkerboard, find_affine

SIZE = (240, 320)


@pytest.fixture
def scene():
    """A visible image with sharp outlines, and what an infrared camera of the same view would show."""
    rng = np.random.default_rng(0)
    visible, infrared = np.full((*SIZE, 3), 90, np.uint8), np.full(SIZE, 40, np.uint8)
    for _ in range(12):
        centre = tuple(int(v) for v in rng.integers(30, 210, 2)[::-1] + (30, 0))
        radius = int(rng.integers(8, 30))
        cv2.circle(visible, centre, radius, [int(v) for v in rng.integers(0, 256, 3)], -1)
        cv2.circle(infrared, centre, radius, int(rng.integers(100, 256)), -1)
    return visible, infrared


def corners_apart(found: np.ndarray, known: np.ndarray) -> float:
    height, width = SIZE
    points = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], float)
    return np.linalg.norm(
        cv2.perspectiveTransform(points, found) - cv2.perspectiveTransform(points, known), axis=-1
    ).max()


def test_ecc_finds_a_known_map(scene):
    visible, infrared = scene
    known = np.array([[0.6, -0.02, 6], [0.02, 0.6, -4], [0, 0, 1]])
    seen = cv2.warpPerspective(infrared, known, (192, 144), borderMode=cv2.BORDER_REPLICATE)
    found, correlation = find_affine(visible, seen)
    assert correlation > 0.7
    assert corners_apart(found, known) < 1
    back = Registration('ecc')(visible, seen, 'a')
    inner = (slice(40, -40), slice(40, -40))
    assert np.abs(back[inner].astype(float) - infrared[inner]).mean() < 4


def test_a_rig_is_aligned_once_and_pairs_by_themselves_each(scene):
    visible, infrared = scene
    moved = [np.roll(infrared, shift, 1) for shift in (0, 6)]
    rig, each = Registration('ecc'), Registration('ecc-each')
    for image in moved:
        rig(visible, image, 'a')
        each(visible, image, 'a')
    assert abs(rig.homography[0, 2]) < 0.5
    assert each.homography[0, 2] == pytest.approx(6, abs=0.5)


def test_what_can_not_be_aligned_is_refused(scene):
    noise = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)
    with pytest.raises(ValueError, match=r'^a: the two images can not be aligned .*give the homography as a file$'):
        Registration('ecc')(scene[0], noise, 'a')


def test_sizes_that_differ_need_a_method(scene):
    visible, infrared = scene
    half = cv2.resize(infrared, (160, 120), interpolation=cv2.INTER_AREA)
    with pytest.raises(
        ValueError, match=r'^a: the visible image is 240x320, the infrared one 120x160 .*align="resize"'
    ):
        Registration()(visible, half, 'a')
    assert Registration()(visible, infrared, 'a') is infrared
    grown = Registration('resize')(visible, half, 'a')
    assert grown.shape == SIZE
    assert np.abs(grown.astype(float) - infrared).mean() < 5


@pytest.mark.parametrize('ending', ['json', 'txt'])
def test_a_homography_comes_from_a_file(scene, tmp_path, ending):
    visible, infrared = scene
    known, path = np.array([[1, 0, 7], [0, 1, -3], [0, 0, 1.0]]), tmp_path / f'h.{ending}'
    path.write_text(json.dumps({'homography': known.tolist()}) if ending == 'json' else '1 0 7\n0, 1, -3\n0 0 1')
    found = Registration(str(path))(visible, infrared, 'a')
    np.testing.assert_array_equal(found[3:, :-7], infrared[:-3, 7:])
    path.write_text('1 2 3')
    with pytest.raises(ValueError, match='holds no homography'):
        Registration(str(path))
    with pytest.raises(FileNotFoundError, match='resize, ecc, ecc-each or a file'):
        Registration('affine')


def test_a_checkerboard_shows_both_in_turns():
    board = checkerboard(np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255, np.uint8), squares=2)
    np.testing.assert_array_equal(board[..., 0], np.kron([[0, 255], [255, 0]], np.ones((4, 4))))


@pytest.mark.parametrize('method', ['ecc', np.eye(3).tolist()])
def test_one_homography_holds_for_pairs_of_one_size(scene, method):
    visible, infrared = scene
    rig = Registration(method)
    assert np.abs(rig(visible, infrared, 'a').astype(float) - infrared).mean() < 1
    half = cv2.resize(infrared, (160, 120), interpolation=cv2.INTER_AREA)
    for pair in ((visible, half), (visible[:120, :160], infrared)):
        with pytest.raises(ValueError, match=r'^b: .* the homography is used for 240x320 and 240x320: .*"ecc-each"'):
            rig(*pair, 'b')
    assert np.abs(rig(visible, infrared, 'c').astype(float) - infrared).mean() < 1
    each = Registration('ecc-each')
    for other in (infrared, half):
        assert np.abs(each(visible, other, 'd').astype(float) - infrared).mean() < 5


@pytest.mark.parametrize(
    'wrong', [np.zeros((3, 3)), np.ones((3, 3)), np.diag([1, 0, 1]), np.eye(2), np.eye(3) * np.nan]
)
def test_what_is_no_homography_is_refused(wrong):
    with pytest.raises(ValueError, match='^a homography'):
        Registration(wrong)
