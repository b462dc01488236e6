"""Infrared values and arrays, as they come."""

import numpy as np
import pytest

from paif_mm.apis.pairs import Pair
from paif_mm.apis.reading import PairReader

SHAPE = (40, 50)
LEVELS = np.linspace(0, 255, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
GREY, DEEP = LEVELS.astype(np.uint8), (LEVELS * 10 + 7000).astype(np.uint16)
VISIBLE = np.full((*SHAPE, 3), 9, np.uint8)


def read(reader: PairReader, infrared: np.ndarray, name: str = 'a') -> np.ndarray:
    """The infrared channel of what is read."""
    return reader(Pair(name, VISIBLE, infrared))['img'][..., 3]


@pytest.mark.parametrize('ir_range', ['auto', (7000, 9550)])
@pytest.mark.parametrize('config', [{}, {'ir_range': (0, 255)}])
def test_ranges_are_for_images_of_more_than_8_bits(ir_range, config):
    reader = PairReader(config, ir_range)
    for _ in range(2):
        np.testing.assert_allclose(read(reader, GREY), GREY)
        np.testing.assert_allclose(read(reader, DEEP), LEVELS, atol=2)
    assert len(reader.notes) == 1
    assert ('of 8 bits, a the first of them, were taken as they are' in reader.notes[0]) == (ir_range != 'auto')


@pytest.mark.parametrize('kind', [np.int16, np.int64, np.float32, np.float64])
def test_numbers_of_any_kind_have_a_range(kind):
    for align in (None, 'resize'):
        np.testing.assert_allclose(read(PairReader({}, (7000, 9550), align), DEEP.astype(kind)), LEVELS, atol=0.2)


def test_a_range_is_estimated_from_an_image_that_has_one():
    reader, damaged = PairReader({}, 'auto'), DEEP.astype(np.float32)
    damaged[0, :3] = np.nan
    shutter = np.full(SHAPE, 7600, np.uint16)
    for _ in range(2):
        with pytest.raises(ValueError, match=r'^shut: nearly all infrared values are 7600, .*give ir_range='):
            read(reader, shutter, 'shut')
        with pytest.raises(ValueError, match=r'^nan holds 3 pixel\(s\) of 2000 that are NaN'):
            read(reader, damaged, 'nan')
    assert reader.notes == []
    np.testing.assert_allclose(read(reader, DEEP, 'seen'), LEVELS, atol=2)
    assert np.ptp(read(reader, shutter)) == 0 and 'of seen)' in reader.notes[0]


def test_arrays_of_one_channel_may_have_an_axis_for_it():
    reader = PairReader({})
    plain = reader(Pair('a', VISIBLE[..., 0], GREY))['img']
    np.testing.assert_array_equal(reader(Pair('a', VISIBLE[..., :1], GREY[..., None]))['img'], plain)


@pytest.mark.parametrize(
    ('infrared', 'words'),
    [
        (GREY[None], r'^a, infrared: an image is an array HxW, .*not \(1, 40, 50\)'),
        (GREY[None, ..., None], 'an image is an array'),
        (GREY[:0], r'with pixels, not \(0, 50\)'),
        (GREY > 9, 'holds numbers, not bool'),
        (GREY.astype(object), 'holds numbers, not object'),
    ],
)
def test_arrays_that_are_no_images_are_refused(infrared, words):
    with pytest.raises(ValueError, match=words):
        read(PairReader({}), infrared)
    with pytest.raises(ValueError, match='^a, visible: '):
        PairReader({})(Pair('a', VISIBLE[None], GREY))
