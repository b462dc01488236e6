"""The worst case over attacks, against exhaustive search on small problems."""

from itertools import product

import numpy as np
import pytest

from paif_mm.evaluation.worst_case import worst_accuracy, worst_miou


def test_accuracy_takes_the_worst_attack_of_each_image():
    mean, choice = worst_accuracy(np.array([[0.9, 0.2, np.nan], [0.5, 0.4, np.nan]]))
    assert mean == pytest.approx((0.5 + 0.2) / 2)
    assert choice[:2].tolist() == [1, 0]


def problem(seed, attacks=3, images=5, classes=4):
    rng = np.random.default_rng(seed)
    unions = rng.integers(0, 40, (attacks, images, classes))
    return (unions * rng.random(unions.shape)).astype(int), unions


def miou(intersections, unions, choice):
    picked = np.array(choice), np.arange(len(choice))
    i, u = intersections[picked].sum(0), unions[picked].sum(0)
    return 100 * (i[u > 0] / u[u > 0]).mean()


@pytest.mark.parametrize('seed', range(10))
def test_greedy_choice_is_near_the_exhaustive_one(seed):
    intersections, unions = problem(seed)
    found, choice = worst_miou(intersections, unions, np.zeros(5, int))
    assert found == pytest.approx(miou(intersections, unions, choice))
    exact = min(miou(intersections, unions, c) for c in product(range(3), repeat=5))
    assert exact <= found + 1e-9
    assert found <= exact + 2
    for image, attack in product(range(5), range(3)):  # no single move helps
        other = choice.copy()
        other[image] = attack
        assert miou(intersections, unions, other) >= found - 1e-9


def test_the_joint_choice_differs_from_the_image_wise_one():
    """Two classes. The second attack leaves image 1 more accurate, but takes its rare class, which no other has."""
    intersections = np.array([[[50, 10]], [[89, 0]]])
    unions = np.array([[[100, 10]], [[100, 10]]])
    _, image_wise = worst_accuracy(np.array([[0.6], [0.89]]))
    found, choice = worst_miou(intersections, unions, image_wise)
    assert image_wise.tolist() == [0]
    assert choice.tolist() == [1]
    assert found == pytest.approx(44.5)
