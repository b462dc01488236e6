"""An attack that is watched is the one that nobody watches, and is left where its watcher leaves."""

import threading

import numpy as np
import pytest
from conftest import REPO
from test_apis.test_inferencer import saved

from paif_mm.apis import PairInferencer, attack_pairs
from paif_mm.apis.attacking import predict_pair
from paif_mm.apis.pairs import source_of
from paif_mm.apis.reading import PairReader
from paif_mm.apis.watching import watch_attack
from paif_mm.registry import ATTACKS, build

CONFIG = str(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')
PGD = {'type': 'PGD', 'eps': 8 / 255, 'steps': 4}


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory):
    weights = saved(CONFIG, tmp_path_factory.mktemp('weights') / 'w.pth')
    return PairInferencer(CONFIG, weights, 'cpu', show_progress=False)


@pytest.fixture(scope='module')
def scene(synthetic_root) -> str:
    return str(sorted((synthetic_root / 'images').iterdir())[0])


def read(inferencer, scene: str) -> dict:
    (pair,) = source_of(scene).pairs
    return inferencer.pipeline(PairReader(inferencer._loader)(pair))


@pytest.mark.parametrize('settings', [PGD, {**PGD, 'restarts': 2, 'restarts_at_once': 2}, {**PGD, 'keep': 'last'}])
def test_the_result_is_that_of_an_attack_that_nobody_watches(inferencer, scene, settings):
    (alone,) = attack_pairs(inferencer, scene, settings)
    attack = build(ATTACKS, settings)
    *looks, watched = watch_attack(inferencer, attack, 'scene', read(inferencer, scene))
    np.testing.assert_array_equal(watched.pair, alone.pair)
    assert watched.audit == alone.audit and watched.effect == alone.effect
    assert type(attack.objective).__name__ == 'TaskLoss'
    asked = settings['steps'] + (settings.get('keep') != 'last')  # the last image needs no step
    assert [len(look.losses) for look in looks] == list(range(1, asked + 1))


def test_looks_are_what_the_model_says_of_the_images_on_the_way(inferencer, scene):
    data = read(inferencer, scene)
    *looks, made = watch_attack(inferencer, build(ATTACKS, PGD), 'scene', data)
    clean = data['inputs'].permute(1, 2, 0).numpy().astype(int)
    assert all(0 < np.abs(look.pair - clean).max() <= 8 for look in looks)
    assert max(looks[-1].losses) == pytest.approx(made.audit.loss_after, abs=0.02)  # that of the rounded image
    assert looks[-1].losses[-1] > looks[0].losses[0]
    last = looks[-1]
    sample, fused = predict_pair(
        inferencer, data['inputs'].new_tensor(last.pair).permute(2, 0, 1), data['data_samples']
    )
    np.testing.assert_array_equal(last.sample.pred_sem_seg.data, sample.pred_sem_seg.data)
    np.testing.assert_array_equal(last.fused, fused)


def test_pauses_skip_looks_but_no_losses(inferencer, scene):
    data = read(inferencer, scene)
    *all_looks, _ = watch_attack(inferencer, build(ATTACKS, PGD), 'scene', data)
    first, last, _ = watch_attack(inferencer, build(ATTACKS, PGD), 'scene', data, pause=600)
    assert len(first.losses) == 1
    assert last.losses == all_looks[-1].losses
    np.testing.assert_array_equal(last.pair, all_looks[-1].pair)


def test_a_closed_watch_stops_the_attack_and_frees_the_model(inferencer, scene):
    attack = build(ATTACKS, {**PGD, 'steps': 10**9})
    before = threading.active_count()
    watch = watch_attack(inferencer, attack, 'scene', read(inferencer, scene))
    next(watch), next(watch)
    watch.close()
    assert threading.active_count() == before
    assert type(attack.objective).__name__ == 'TaskLoss'
    assert all(parameter.requires_grad for parameter in inferencer.model.parameters())


def test_what_goes_wrong_is_raised_where_it_is_watched(inferencer, scene):
    attack = build(ATTACKS, {**PGD, 'objective': {'type': 'TaskLoss', 'terms': ['loss_nothing']}})
    with pytest.raises(ValueError, match='has no loss loss_nothing'):
        list(watch_attack(inferencer, attack, 'scene', read(inferencer, scene)))
