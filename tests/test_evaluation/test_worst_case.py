"""The worst case over attacks: never above one of them, against exhaustive search, on many small problems."""

from itertools import product

import numpy as np
import pytest

from paif_mm.evaluation.score import AveragePrecision, MeanIoU
from paif_mm.evaluation.worst_case import worst_accuracy, worst_choices

ATTACKS, IMAGES = 3, 5


def test_accuracy_takes_the_worst_attack_of_each_image():
    mean, choice = worst_accuracy(np.array([[0.9, 0.2, np.nan], [0.5, 0.4, np.nan]]))
    assert mean == pytest.approx((0.5 + 0.2) / 2)
    assert choice[:2].tolist() == [1, 0]


def segmentations(rng, attacks: int, images: int, classes: int = 4) -> list[list[dict]]:
    """Records of one set of labels, in which classes are missing from many images."""
    areas = rng.integers(1, 40, (images, classes)) * (rng.random((images, classes)) < 0.6)
    return [[_predicted(rng, area) for area in areas] for _ in range(attacks)]


def _predicted(rng, area) -> dict:
    right = (area * rng.random(len(area))).astype(int)
    wrong = rng.multinomial(int((area - right).sum()), rng.dirichlet(np.ones(len(area))))
    return {'intersect': right, 'union': area + wrong, 'labelled': int(area.sum()), 'sizes': [[0, 0]] * 3}


def detections(rng, attacks: int, images: int, classes: int = 2) -> list[list[dict]]:
    """Records of one set of boxes; scores of few values, so that many are equal."""
    truths = [rng.integers(0, classes, rng.integers(0, 4)).tolist() for _ in range(images)]
    return [[_detected(rng, truth, classes) for truth in truths] for _ in range(attacks)]


def _detected(rng, truth: list[int], classes: int) -> dict:
    boxes = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(len(truth))]
    hits = [i for i in range(len(truth)) if rng.random() < 0.6]
    alone = [[20.0 * i, 50.0, 20.0 * i + 10, 60.0] for i in range(rng.integers(0, 4))]
    scores = (rng.integers(1, 10, len(hits) + len(alone)) / 10).tolist()
    return {
        'boxes': [boxes[i] for i in hits] + alone,
        'scores': scores,
        'labels': [truth[i] for i in hits] + rng.integers(0, classes, len(alone)).tolist(),
        'truth': boxes,
        'classes': truth,
        'ignored': [],
        'ignored_classes': [],
        'false': scores[len(hits) :],
    }


KINDS = {'mIoU': (segmentations, MeanIoU), 'AP50': (detections, AveragePrecision)}


def problems(kind: str, count: int, seed: int, attacks: int = ATTACKS, images: int | None = IMAGES) -> list[list]:
    """Problems, each a list of scores, one of each attack; without ``images`` of two to five of these.

    They are matched all at once, as pycocotools takes its time.
    """
    rng = np.random.default_rng(seed)
    make, score = KINDS[kind]
    made = [make(rng, attacks, images or int(rng.integers(2, 6))) for _ in range(count)]
    whole = score([record for problem in made for records in problem for record in records])
    ends = np.cumsum([len(records) for problem in made for records in problem])
    parts = iter(np.split(np.arange(ends[-1]), ends[:-1]))
    return [[whole.take(next(parts)) for _ in problem] for problem in made]


def chosen(scores, choice):
    count = scores[0].count
    return type(scores[0]).joined(scores).take(np.array(choice) * count + np.arange(count))


def value(score, name, images=None):
    weights = np.zeros((1, score.count))
    weights[:, np.arange(score.count) if images is None else images] = 1
    return float(np.nan_to_num(score.value(name, weights)[0]))


def worst(scores, images=None, starts=()):
    image_wise = worst_accuracy(np.stack([score.per_image() for score in scores]))[1]
    images = np.arange(scores[0].count) if images is None else images
    return worst_choices(type(scores[0]).joined(scores), len(scores), images, [image_wise, *starts])


@pytest.mark.parametrize('kind', KINDS)
def test_no_worst_case_is_above_a_member_or_a_smaller_worst_case(kind):
    """200 problems: the figures of all images and of half of them; a ball of three attacks inside one of four."""
    for problem, scores in enumerate(problems(kind, 200, 0, attacks=4, images=None)):
        half = np.arange(0, scores[0].count, 2)
        for images in (None, half) if problem % 4 == 0 else (None,):
            inner = worst(scores[:3], images)
            outer = worst(scores, images, list(inner.values()))
            for name in (scores[0].name, scores[0].second):
                small = value(chosen(scores, inner[name]), name, images)
                large = value(chosen(scores, outer[name]), name, images)
                members = [value(score, name, images) for score in scores]
                assert small <= min(members[:3]) + 1e-9, (problem, name)
                assert large <= min(members) + 1e-9, (problem, name)
                assert large <= small + 1e-9, (problem, name)


@pytest.mark.parametrize('kind', KINDS)
def test_greedy_choices_are_near_the_exhaustive_ones(kind):
    gaps = []
    for scores in problems(kind, 3, 1):
        choice = worst(scores)[kind]
        found = value(chosen(scores, choice), kind)
        exact = min(value(chosen(scores, c), kind) for c in product(range(ATTACKS), repeat=IMAGES))
        gaps.append(found - exact)
        for image, attack in product(range(IMAGES), range(ATTACKS)):  # no single move helps
            other = choice.copy()
            other[image] = attack
            assert value(chosen(scores, other), kind) >= found - 1e-9
    assert min(gaps) >= -1e-9
    assert np.mean(gaps) < 1


@pytest.mark.parametrize('kind', KINDS)
def test_joined_and_taken_scores_are_those_of_the_records(kind):
    make, score = KINDS[kind]
    scores = [score(records, list('abcd')) for records in make(np.random.default_rng(2), 2, 6)]
    again = chosen(scores, [1] * 6)
    for name, expected in scores[1].figures(np.ones((1, 6))).items():
        np.testing.assert_allclose(again.figures(np.ones((1, 6)))[name], expected)
    np.testing.assert_allclose(again.per_image(), scores[1].per_image())
    for name in (kind, scores[0].second):
        np.testing.assert_allclose(again.value(name, np.ones((1, 6))), again.figures(np.ones((1, 6)))[name])


def test_image_wise_choices_of_detections_can_lie_above_an_attack():
    """What the search mends: single images' AP50 knows nothing of scores that other images' detections have."""
    above = 0
    for scores in problems('AP50', 50, 0, attacks=4, images=4):
        image_wise = worst_accuracy(np.stack([score.per_image() for score in scores]))[1]
        above += value(chosen(scores, image_wise), 'AP50') > min(value(score, 'AP50') for score in scores) + 1e-9
    assert above > 0


def test_the_joint_choice_differs_from_the_image_wise_one():
    """Two classes. The second attack leaves image 1 more accurate, but takes its rare class, which no other has."""
    records = [([50, 10], [100, 10]), ([89, 0], [100, 10])]
    scores = [MeanIoU([{'intersect': i, 'union': u, 'labelled': 100, 'sizes': [[0, 0]] * 3}]) for i, u in records]
    assert worst_accuracy(np.stack([score.per_image() for score in scores]))[1].tolist() == [0]
    assert worst(scores)['mIoU'].tolist() == [1]
    assert value(chosen(scores, [1]), 'mIoU') == pytest.approx(44.5)
