"""Figures and worst cases of records that were made by hand."""

from itertools import product

import numpy as np
import pytest

from paif_mm.evaluation.score import AveragePrecision, MeanIoU
from paif_mm.robustness.statistics import Bootstrap, worst_case

CLASSES = ['wall', 'person']


def segmented(wall: tuple, person: tuple) -> dict:
    """A record of (right, predicted wrongly, missed) pixels of two classes."""
    counts = np.array([wall, person])
    return {
        'intersect': counts[:, 0].tolist(),
        'union': counts.sum(1).tolist(),
        'labelled': int(counts[:, [0, 2]].sum()),
        'sizes': [[int(counts[1, 0]), int(counts[1, [0, 2]].sum())], [0, 0], [0, 0]],
    }


def detected(hit: bool, false_score: float = 0.0) -> dict:
    """A record of one true box, found or not, and of a false detection of some score."""
    false = [[50.0, 50, 60, 60]] if false_score else []
    return {
        'boxes': [*([[0.0, 0, 10, 10]] if hit else []), *false],
        'scores': [*([0.5] if hit else []), *([false_score] if false_score else [])],
        'labels': [0] * (hit + bool(false_score)),
        'truth': [[0.0, 0, 10, 10]],
        'classes': [0],
        'ignored': [],
        'ignored_classes': [],
        'false': [false_score] if false_score else [],
    }


@pytest.fixture
def records():
    rng = np.random.default_rng(0)
    return [segmented((a, b, c), (d, c, b)) for a, b, c, d in rng.integers(1, 50, (12, 4))]


def test_the_value_is_the_plain_figure(records):
    score = MeanIoU(records, CLASSES)
    plain = score.figures(np.ones((1, len(records))))
    figures = Bootstrap(len(records)).figures(score)
    assert figures['recall/medium'] == {'value': None, 'low': None, 'high': None}
    for name in ('mIoU', 'mIoU_paper', 'aAcc', 'IoU/wall', 'IoU/person', 'recall/small'):
        assert figures[name]['value'] == pytest.approx(plain[name][0], abs=1e-4)
        assert figures[name]['low'] < figures[name]['value'] < figures[name]['high']


def test_a_constant_is_certain():
    bootstrap = Bootstrap(7, resamples=50)
    assert bootstrap.mean([0.3] * 7) == {'value': 0.3, 'low': 0.3, 'high': 0.3}
    figures = bootstrap.figures(MeanIoU([segmented((6, 2, 2), (3, 2, 2))] * 7, CLASSES))
    assert figures['IoU/wall'] == {'value': 60.0, 'low': 60.0, 'high': 60.0}


@pytest.mark.parametrize(('level', 'quantile'), [(0.95, 1.96), (0.5, 0.6745)])
def test_intervals_of_a_mean_are_those_of_the_normal_law(level, quantile):
    values = np.random.default_rng(1).normal(5, 2, 400)
    interval = Bootstrap(400, resamples=4000, level=level).mean(values)
    reach = quantile * values.std() / 20
    assert interval['value'] == pytest.approx(values.mean(), abs=1e-4)
    assert interval['low'] == pytest.approx(values.mean() - reach, abs=0.06 * reach + 0.005)
    assert interval['high'] == pytest.approx(values.mean() + reach, abs=0.06 * reach + 0.005)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    bootstrap = Bootstrap(60, resamples=400, level=0.9)
    intervals = [bootstrap.mean(rng.exponential(1, 60)) for _ in range(300)]
    covered = np.mean([it['low'] <= 1 <= it['high'] for it in intervals])
    assert 0.83 < covered < 0.94


def test_figures_share_their_resamples():
    values = np.random.default_rng(3).normal(size=30)
    bootstrap = Bootstrap(30, resamples=200)
    one, shifted = bootstrap.mean(values), bootstrap.mean(values + 1)
    assert all(shifted[key] - one[key] == pytest.approx(1, abs=2e-4) for key in one)
    assert bootstrap.mean(values) == Bootstrap(30, resamples=200).mean(values)
    assert bootstrap.mean(values) != Bootstrap(30, resamples=200, seed=1).mean(values)


def test_every_resample_is_as_large_as_the_data_set():
    weights = Bootstrap(9, resamples=20).weights
    assert weights.shape == (21, 9)
    assert (weights.sum(1) == 9).all()
    assert (weights[0] == 1).all()
    assert (weights[1:] != 1).any(1).all(), 'drawn with replacement'


def test_members_select_a_group(records):
    members = np.array([1.0] * 4 + [0.0] * 8)
    score = MeanIoU(records, CLASSES)
    figures = Bootstrap(12).figures(score, members)
    alone = MeanIoU(records[:4], CLASSES).figures(np.ones((1, 4)))
    assert figures['mIoU']['value'] == pytest.approx(alone['mIoU'][0], abs=1e-4)
    assert figures['mIoU']['value'] != Bootstrap(12).figures(score)['mIoU']['value']


def test_nothing_gives_none_and_missing_values_are_left_out(records):
    nothing = {'value': None, 'low': None, 'high': None}
    bootstrap = Bootstrap(12)
    assert bootstrap.mean([np.nan] * 12) == nothing
    assert bootstrap.figures(MeanIoU(records, CLASSES), np.zeros(12))['mIoU'] == nothing
    assert bootstrap.mean([2.0] * 6 + [np.nan] * 6) == {'value': 2.0, 'low': 2.0, 'high': 2.0}
    rare = bootstrap.mean([4.0] + [np.nan] * 11)
    assert rare == {'value': 4.0, 'low': 4.0, 'high': 4.0}, 'resamples without it do not count'


def test_the_worst_case_of_segmentation_is_chosen_image_by_image():
    first = [segmented((50, 5, 5), (10, 5, 5)), segmented((20, 20, 20), (5, 20, 20))]
    second = [segmented((30, 15, 15), (0, 15, 15)), segmented((45, 5, 5), (20, 5, 5))]
    found = worst_case([MeanIoU(records, CLASSES) for records in (first, second)])
    assert found.choices['image-wise'].tolist() == [1, 0]
    chosen = found.figures['image-wise']
    assert chosen.per_image().tolist() == [0.5, 0.38461538461538464]
    assert chosen.classes == CLASSES
    accuracy = chosen.figures(np.ones((1, 2)))['aAcc'][0]
    assert accuracy == pytest.approx(100 * (30 + 0 + 20 + 5) / (60 + 65))


@pytest.mark.parametrize('seed', range(4))
def test_the_joint_worst_case_is_no_better_than_any_attack_or_choice(seed):
    rng = np.random.default_rng(seed)
    attacks = [[segmented((a, b, c), (d, c, b)) for a, b, c, d in rng.integers(0, 50, (4, 4))] for _ in range(3)]
    scores = [MeanIoU(records, CLASSES) for records in attacks]
    found = worst_case(scores)

    def miou(score):
        return score.figures(np.ones((1, 4)))['mIoU'][0]

    assert found.score is found.figures['mIoU']
    assert miou(found.score) <= miou(found.figures['image-wise']) + 1e-9
    assert miou(found.score) <= min(map(miou, scores)) + 1e-9
    picked = MeanIoU([attacks[attack][image] for image, attack in enumerate(found.choices['mIoU'])], CLASSES)
    assert miou(picked) == miou(found.score)
    every = [
        miou(MeanIoU([attacks[attack][image] for image, attack in enumerate(choice)], CLASSES))
        for choice in product(range(3), repeat=4)
    ]
    assert miou(found.score) <= min(every) + 1


def test_an_image_without_labels_changes_no_worst_case():
    nothing = segmented((0, 0, 0), (0, 0, 0))
    attacks = [[segmented((9, 1, 1), (9, 1, 1)), nothing], [segmented((5, 5, 5), (5, 5, 5)), nothing]]
    found = worst_case([MeanIoU(records, CLASSES) for records in attacks])
    assert found.choices['image-wise'][0] == found.choices['mIoU'][0] == 1
    assert found.score.figures(np.ones((1, 2)))['mIoU'][0] == pytest.approx(100 / 3)


def test_the_worst_case_of_detection_prefers_misses_then_false_scores():
    attacks = [
        [detected(True), detected(False, 0.3), detected(True), detected(True, 0.1)],
        [detected(False), detected(False, 0.9), detected(True), detected(True)],
        [detected(True, 0.4), detected(False), detected(False), detected(True, 0.2)],
    ]
    scores = [AveragePrecision(records, ['a']) for records in attacks]
    found = worst_case(scores)
    assert found.choices['image-wise'].tolist() == [1, 1, 2, 2]
    assert found.figures['image-wise'].false_scores.tolist() == [0, 0.9, 0, 0.2]
    figures, *others = (score.figures(np.ones((1, 4)))['AP50'][0] for score in (found.score, *scores))
    assert figures < min(others)


def test_groups_of_images_choose_for_themselves():
    """What lowers the mIoU of both images together is not what lowers that of the first one alone."""
    attacks = [
        [segmented((50, 0, 0), (10, 0, 0)), segmented((50, 0, 0), (0, 40, 0))],
        [segmented((50, 0, 0), (0, 20, 10)), segmented((50, 0, 0), (0, 0, 0))],
        [segmented((10, 40, 20), (10, 20, 40)), segmented((50, 0, 0), (0, 40, 0))],
    ]
    scores = [MeanIoU(records, CLASSES) for records in attacks]
    for members in (np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.ones(2)):
        found = worst_case(scores, members)
        values = [score.value('mIoU', members[None])[0] for score in scores]
        assert found.score.value('mIoU', members[None])[0] <= min(values) + 1e-9
    alone = worst_case(scores, np.array([1.0, 0.0])).choices['mIoU'][0]
    assert alone == int(np.argmin([score.value('mIoU', np.array([[1.0, 0.0]]))[0] for score in scores]))


def test_differences_are_paired():
    """Two models that are wrong on the same images differ by less than their intervals say."""
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 200, (40, 2))
    first, second = (
        MeanIoU([segmented((a, 200 - a + more, 0), (b, 0, 200 - b)) for a, b in counts], CLASSES) for more in (0, 12)
    )
    bootstrap = Bootstrap(40)
    one, other = (bootstrap.figures(score)['mIoU'] for score in (first, second))
    gap = bootstrap.difference(first, second)
    assert gap['value'] == pytest.approx(one['value'] - other['value'], abs=2e-4)
    assert 0 < gap['low'] < gap['value'] < gap['high']
    assert gap['high'] - gap['low'] < 0.2 * (one['high'] - one['low'])
    assert one['low'] < other['high'], 'alone they could not be told apart'
