"""Targeted attacks: goals, regions and classes by name, known losses, and what is reached on a trained segmentor."""

import numpy as np
import pytest
import torch
from test_robustness.benches import CLASSES, Scenes, bench, trained

from paif_mm.attacks import PGD, Targeted
from paif_mm.attacks.targeted import class_index, targets_of
from paif_mm.robustness.targeted import _Counts, attack_pairs, class_pairs, targeted_sections

EPS = 24 / 255


@pytest.fixture(scope='module')
def it():
    return bench(trained(), Scenes(3, seed=5))


def batch_of(it, *places):
    return it.batch([it.dataset[i] for i in places])


def predicted(it, images, batch):
    return torch.stack([sample.pred_sem_seg.data[0] for sample in it.predict(images, batch)])


def labels(batch):
    return torch.stack([sample.gt_sem_seg.data[0] for sample in batch['data_samples']])


def test_targets_are_those_of_the_last_goal_that_names_a_pixel():
    label = torch.tensor([[[0, 1, 1, 255], [2, 2, 1, 0]]])
    goals = [{'target': 3}, {'source': 1, 'target': 0}, {'source': None, 'target': 2, 'region': (0.5, 0.5, 1, 1)}]
    assert targets_of(label, goals, 4).tolist() == [[[3, 0, 0, -1], [3, 3, 2, 2]]]
    assert targets_of(label, goals[1:2], 4).tolist() == [[[-1, 0, 0, -1], [-1, -1, 0, -1]]]


def test_losses_are_cross_entropies_of_goals_and_of_the_rest():
    """Of two pixels with a target one is there already; the loss is a mean over both, the rest keeps its labels."""
    logits = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 3], [1, 1, 0]]).T[None, :, None]  # (1, 3, 1, 4)
    label, target = torch.tensor([[[1, 0, 2, 255]]]), torch.tensor([[[0, 2, -1, -1]]])
    found = Targeted([{'target': 0}], keep=2.0)._losses(logits, label, target)
    towards = -logits.log_softmax(1)[0, 2, 0, 1] / 2
    kept = -logits.log_softmax(1)[0, 2, 0, 2]
    assert found.loss.item() == pytest.approx(-(towards + 2 * kept).item())
    assert found.harm.item() == 0.5
    nothing = Targeted([{'target': 0}])._losses(logits, label, torch.full_like(target, -1))
    assert (nothing.loss.item(), nothing.harm.item()) == (0, 0)


def test_one_class_becomes_another_and_the_rest_stays(it):
    batch = batch_of(it, 0, 1)
    attack = PGD(
        EPS,
        EPS / 8,
        30,
        random_start=False,
        objective={'type': 'Targeted', 'goals': [{'source': 'red', 'target': 'blue'}]},
    )
    found = attack(it.model, batch)
    label, red = labels(batch), CLASSES.index('red')
    before, after = (predicted(it, images, batch) for images in (found.clean, found.images))
    aimed = label == red
    assert aimed.any()
    assert (before == CLASSES.index('blue'))[aimed].float().mean() < 0.1
    assert (after == CLASSES.index('blue'))[aimed].float().mean() > 0.8
    assert (after == label)[~aimed].float().mean() > (before == label)[~aimed].float().mean() - 0.05


def test_a_region_alone_is_changed(it):
    batch = batch_of(it, 0)
    goal = {'target': 1, 'region': (0.0, 0.0, 0.5, 0.5)}
    found = PGD(EPS, EPS / 8, 30, random_start=False, objective={'type': 'Targeted', 'goals': [goal]})(it.model, batch)
    after, label = predicted(it, found.images, batch)[0], labels(batch)[0]
    assert (after[:24, :32] == 1).float().mean() > 0.6
    rest = torch.ones_like(label, dtype=torch.bool)
    rest[:24, :32] = False
    assert (after == label)[rest].float().mean() > 0.85


def test_an_image_without_the_class_is_left_alone(it):
    scenes = Scenes(1)
    scenes.items[0][1][:] = 0
    other = bench(it.model, scenes)
    objective = {'type': 'Targeted', 'goals': [{'source': 'red', 'target': 'blue'}]}
    found = PGD(EPS, steps=2, random_start=False, objective=objective)(other.model, batch_of(other, 0))
    assert torch.equal(found.images[0], found.clean[0])


def test_classes_have_names_and_indices(it):
    assert class_index('blue', it.model, 4) == 2
    assert class_index(3, it.model, 4) == 3
    with pytest.raises(ValueError, match="there is no class 'bleu': did you mean blue"):
        class_index('bleu', it.model, 4)
    with pytest.raises(ValueError, match='there is no class 4: the model has 4, from 0'):
        class_index(4, it.model, 4)
    with pytest.raises(ValueError, match="the classes have no names here: give the index of 'blue'"):
        class_index('blue', torch.nn.Linear(1, 1), 4)


def test_who_can_be_made_to_vanish_is_a_table(it):
    pairs = class_pairs(['red:blue', 'warm:background'], CLASSES)
    assert pairs == [(3, 2), (1, 0)]
    assert len(class_pairs(['all'], CLASSES)) == 12
    found = attack_pairs(it, pairs, EPS, steps=20, progress=False)
    assert [one['images'] for one in found] == [
        sum(bool((it.dataset[i]['data_samples'].gt_sem_seg.data == source).any()) for i in range(3))
        for source, _ in pairs
    ]
    first = found[0]
    assert first['source'] == 'red'
    assert first['success'] > 60 > 10 > first['before']
    assert first['found'] > 90
    assert first['vanished'] > 60
    assert first['collateral'] == pytest.approx(first['rest_before'] - first['rest_after'])
    assert abs(first['collateral']) < 10
    table, matrix = targeted_sections(found, CLASSES, EPS)
    assert table.rows[0][0] == 'red to blue'
    assert matrix.head == ['from', *CLASSES]
    assert matrix.rows[3][3] == f'{first["success"]:.0f}'
    assert matrix.rows[0][1:] == ['', '', '', '']


def test_only_what_was_found_can_vanish():
    """Ten pixels of class 1, of which the model finds four and loses one; two it never saw become the target."""
    counts = _Counts(1, 2, 3)
    label = np.array([1] * 10 + [0] * 2)
    clean = np.array([1] * 4 + [0] * 6 + [0] * 2)
    attacked = np.array([1] * 3 + [2] + [0] * 4 + [2] * 2 + [0] * 2)
    counts.add(label, clean, attacked)
    figures = counts.figures(['background', 'person', 'road'])
    assert {key: figures[key] for key in ('found', 'vanished', 'before', 'success')} == {
        'found': 40,
        'vanished': 25,
        'before': 0,
        'success': 30,
    }
    table, _ = targeted_sections([figures], ['background', 'person', 'road'], EPS)
    assert dict(zip(table.head, table.rows[0], strict=True)) == {
        'from, to': 'person to road',
        'images': '1',
        'success': '30.0',
        'so before': '0.0',
        'found before': '40.0',
        'vanished': '25.0',
        'rest before': '100.0',
        'rest after': '100.0',
        'collateral': '0.0',
    }
    never = _Counts(1, 2, 3)
    never.add(label, np.zeros(12), np.zeros(12))
    assert (never.figures('abc')['found'], never.figures('abc')['vanished']) == (0, None)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match='Targeted needs goals'):
        Targeted([])
    with pytest.raises(ValueError, match="a goal of Targeted has no 'sauce': did you mean source"):
        Targeted([{'sauce': 1, 'target': 2}])
    with pytest.raises(ValueError, match='needs a target'):
        Targeted([{'source': 1}])
    with pytest.raises(ValueError, match='a region must be'):
        Targeted([{'target': 1, 'region': (0.5, 0, 0.2, 1)}])
    for text, message in (
        ('red', 'write SOURCE:TARGET'),
        ('red:red', 'is the same class twice'),
        ('rde:blue', "there is no class 'rde': did you mean red"),
    ):
        with pytest.raises(ValueError, match=message):
            class_pairs([text], CLASSES)
