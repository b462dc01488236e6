"""Blocks of images: intervals that hold for neighbours of a video, and lengths that fit known correlations."""

import numpy as np
import pytest

from paif_mm.robustness.blocks import Blocks, run_length
from paif_mm.robustness.statistics import Bootstrap, chosen_blocks

NAMES = [f'{i:05d}{"DN"[i % 3 == 0]}.png' for i in range(200)]


def frames(rng, count: int, alike: float) -> np.ndarray:
    """A stationary series of mean 0 and variance 1 whose neighbours correlate by ``alike``."""
    series = np.empty(count)
    series[0] = rng.normal()
    for i in range(1, count):
        series[i] = alike * series[i - 1] + np.sqrt(1 - alike**2) * rng.normal()
    return series


def test_runs_follow_the_ids_by_number_and_wrap_around():
    blocks = Blocks.runs(['10.png', '9.png', '1.png', '2.png'], 3)
    assert blocks.order == [2, 3, 1, 0]
    weights = blocks.weights(300, np.random.default_rng(0))
    assert (weights.sum(1) == 4).all()
    together = {tuple(row) for row in weights}
    assert (1.0, 1.0, 1.0, 1.0) in together, 'a run of three and the one after it'
    assert len(Blocks.runs(list('abcdef'), 6).weights(50, np.random.default_rng(0)).tolist()) == 50
    assert (Blocks.runs(list('abcdef'), 6).weights(50, np.random.default_rng(0)) == 1).all()


def test_named_blocks_are_drawn_whole():
    names = ['a_1', 'b_1', 'a_2', 'c_9', 'b_2']
    blocks = Blocks.named(names, r'^(\w)_')
    assert blocks.names == ['a', 'b', 'a', 'c', 'b']
    weights = blocks.weights(400, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all(), 'as many blocks as there are'
    assert str(blocks) == "3 blocks of images that '^(\\\\w)_' names alike"


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: Blocks.runs(NAMES, 201), 'must have 1 to 200 images'),
        (lambda: Blocks.named(NAMES, '['), 'no number of images and no regular expression'),
        (lambda: Blocks.named(NAMES, 'x'), 'finds no block in the id 00000N.png'),
        (lambda: Blocks.named(NAMES, 'png'), 'puts all images into one block'),
    ],
)
def test_blocks_that_can_not_be_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_intervals_of_neighbours_cover_the_truth_in_blocks_alone():
    """Correlation .8: a mean of 200 frames is worth 22 independent ones. Nominal 90 %."""
    rng = np.random.default_rng(1)
    series = [frames(rng, 200, 0.8) for _ in range(150)]
    lengths = [run_length(one) for one in series]
    covered = {}
    for length in (1, int(np.median(lengths))):
        bootstrap = Bootstrap(Blocks.runs(NAMES, length), resamples=300, level=0.9)
        intervals = [bootstrap.mean(one) for one in series]
        covered[length] = np.mean([it['low'] <= 0 <= it['high'] for it in intervals])
    single, several = covered.values()
    assert single < 0.6
    assert several > 0.75


@pytest.mark.parametrize(('alike', 'low', 'high'), [(0.0, 1, 3), (0.5, 4, 14), (0.9, 12, 60)])
def test_the_length_grows_with_the_correlation(alike, low, high):
    """Patton, Politis and White 2009: (2 G^2 / D)^(1/3) N^(1/3), for an AR(1) of N = 500 some 1, 10 and 32."""
    rng = np.random.default_rng(2)
    lengths = [run_length(frames(rng, 500, alike)) for _ in range(40)]
    assert low <= np.median(lengths) <= high


def test_series_that_say_nothing_stand_alone():
    assert run_length(np.ones(50)) == 1
    assert run_length(np.arange(5.0)) == 1
    assert run_length(np.full(50, np.nan)) == 1


def test_values_that_are_not_finite_are_left_out():
    series = frames(np.random.default_rng(5), 200, 0.8)
    expected = run_length(series)
    assert expected > 5
    assert run_length(np.array([np.nan, *series, np.inf])) == expected
    broken = series.copy()
    broken[[20, 90, 150]] = np.nan, np.inf, -np.inf
    assert abs(run_length(broken) - expected) <= 2


def test_the_length_is_chosen_on_what_images_add_to_the_figure():
    from test_robustness.test_statistics import CLASSES, segmented

    from paif_mm.evaluation.score import MeanIoU

    rng = np.random.default_rng(3)
    quality = np.clip(0.5 + 0.15 * frames(rng, 200, 0.9), 0.05, 0.95)
    right = (200 * quality).astype(int)
    shuffled = rng.permutation(200)
    alike = MeanIoU([segmented((r, 200 - r, 0), (r, 0, 200 - r)) for r in right], CLASSES)
    other = MeanIoU([segmented((r, 200 - r, 0), (r, 0, 200 - r)) for r in right[shuffled]], CLASSES)
    chosen = chosen_blocks(NAMES, [other, alike])
    assert chosen.length > 10
    assert str(chosen) == f'runs of {chosen.length} images in the order of their ids'
    assert chosen_blocks(NAMES, [other]).length < 4
    widths = {}
    for blocks in (chosen, Blocks.runs(NAMES)):
        figure = Bootstrap(blocks).figures(alike)['mIoU']
        widths[str(blocks)] = figure['high'] - figure['low']
    wide, narrow = widths.values()
    assert wide > 2 * narrow
