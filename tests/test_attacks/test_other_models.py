"""Every attack and objective on models of every kind: it attacks, or says in one line, unasked, that it can't."""

import numpy as np
import pytest
import torch
from helpers import box_batch, build_model, pair_batch, tiny_fcos, tiny_segformer
from mmengine.config import Config

from paif_mm.attacks import PGD, AdversarialAttackHook
from paif_mm.attacks.bank import write_pair
from paif_mm.registry import ATTACKS, OBJECTIVES, build

EPS = 4 / 255
PIXELS = {'type': 'PixelLoss', 'name': 'cross_entropy'}
SEGMENTORS, FUSED, DETECTORS = 'attacks segmentors, not', 'needs a fused model', 'attacks detectors of boxes, not'
#: Objective -> its settings, and what it says of a detector, of a segmentor, and of either without fusion.
OBJECTIVE = {
    'TaskLoss': ({}, None, None, None),
    'PixelLoss': ({'name': 'dlr'}, SEGMENTORS, None, None),
    'FusionObjective': ({}, None, None, FUSED),
    'WeightedSum': ({'objectives': [PIXELS, {'type': 'TaskLoss'}], 'weights': [1, 1]}, SEGMENTORS, None, None),
    'Targeted': ({'goals': [{'target': 1}]}, SEGMENTORS, None, None),
    'Disagreement': ({}, SEGMENTORS, None, FUSED),
    'PassedOn': ({'modality': 'ir'}, None, None, FUSED),
    'HiddenInFused': ({'objective': PIXELS}, SEGMENTORS, None, FUSED),
    'TOG': ({'aim': 'vanishing'}, None, DETECTORS, None),
}
#: The same of attacks; texts in braces are files of the fixture.
ATTACK = {
    'PGD': ({'eps': EPS, 'steps': 1}, None, None, None),
    'APGD': ({'eps': EPS, 'steps': 1}, None, None, None),
    'Square': ({'eps': EPS, 'queries': 2}, None, None, None),
    'NFGSM': ({'eps': EPS}, None, None, None),
    'StepControlFGSM': ({'eps': EPS}, SEGMENTORS, None, None),
    'ALMAProx': ({'steps': 1}, SEGMENTORS, None, None),
    'PDPGD': ({'steps': 1}, SEGMENTORS, None, None),
    'DAG': ({'steps': 1}, SEGMENTORS, None, None),
    'WeakestModality': ({'eps': EPS, 'steps': 1}, None, None, FUSED),
    'Corruption': ({'name': 'fog'}, None, None, None),
    'PatchAttack': ({'file': '{folder}/patch.png'}, None, None, None),
    'UniversalPerturbation': ({'file': '{folder}/universal.npy', 'eps': EPS}, None, None, None),
}
FROM_FILES = {'TransferAttack', 'BankAttack'}  # which have tests of their own


def registered(registry) -> set:
    registry.import_from_location()
    return {name for name, kind in registry.module_dict.items() if kind.__module__.startswith('paif_mm.')}


def test_none_is_left_out():
    assert registered(ATTACKS) == {*ATTACK, *FROM_FILES}
    assert registered(OBJECTIVES) == {*OBJECTIVE}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('learned')
    write_pair(path / 'patch.png', torch.full((4, 8, 8), 9, dtype=torch.uint8))
    np.save(path / 'universal.npy', np.full((4, 32, 40), 2, np.float32))
    return path


def plain(config):
    config.data_preprocessor = config.data_preprocessor.task
    return config


@pytest.fixture(scope='module')
def models():
    """Kind -> model, and its batch."""
    return {
        'detector': (build_model(tiny_fcos()).eval(), box_batch()),
        'segmentor': (build_model(tiny_segformer()).eval(), pair_batch()),
        'plain segmentor': (build_model(plain(tiny_segformer())).eval(), pair_batch(channels=3)),
    }


def outcome(attack, model, batch, message: str | None) -> None:
    """It refuses the model, unasked and asked, or attacks it."""
    if message is None:
        attack.check_model(model)
        found = attack(model, batch)
        assert len(found.images) == len(batch['inputs'])
        assert all(image.isfinite().all() for image in found.images)
        attack.losses(model, found.images, found, batch)
        return
    with pytest.raises(TypeError, match=message) as refused:
        attack.check_model(model)
    assert '\n' not in str(refused.value)


KINDS = {'detector': 1, 'segmentor': 2, 'plain segmentor': 3}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', OBJECTIVE)
def test_objectives(name, kind, models):
    settings, *messages = OBJECTIVE[name]
    message = messages[KINDS[kind] - 1] or (messages[1] if kind == 'plain segmentor' else None)
    attack = PGD(EPS, steps=1, objective={'type': name, **settings})
    outcome(attack, *models[kind], message)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', ATTACK)
def test_attacks(name, kind, models, folder):
    if kind == 'plain segmentor' and name in ('PatchAttack', 'UniversalPerturbation'):
        pytest.skip('these were learned on pairs, which the images tell, not the model')
    settings, *messages = ATTACK[name]
    settings = {key: value.format(folder=folder) if key == 'file' else value for key, value in settings.items()}
    message = messages[KINDS[kind] - 1]
    outcome(build(ATTACKS, {'type': name, **settings}), *models[kind], message)


@pytest.mark.parametrize('name', [*ATTACK, 'TransferAttack'])
def test_what_an_attack_is_measured_by_is_checked_too(name, models, folder):
    if name in ('StepControlFGSM', 'NFGSM'):
        return  # the former has its own objective, the latter is not for measuring
    settings = dict(ATTACK.get(name, ({},))[0])
    if name == 'TransferAttack':
        config, weights = saved(folder, tiny_fcos())
        settings = {'config': config, 'checkpoint': weights, 'attack': {'type': 'PGD', 'eps': EPS}}
    settings = {key: value.format(folder=folder) if key == 'file' else value for key, value in settings.items()}
    attack = build(ATTACKS, {'type': name, **settings, 'objective': PIXELS})
    with pytest.raises(TypeError, match=SEGMENTORS):
        attack.check_model(models['detector'][0])


def saved(folder, config):
    model = build_model(config)
    Config({'default_scope': config.get('_scope_', 'mmseg'), 'model': config.to_dict()}).dump(str(folder / 'source.py'))
    torch.save({'state_dict': model.state_dict()}, folder / 'source.pth')
    return str(folder / 'source.py'), str(folder / 'source.pth')


def test_a_transferred_attack_is_checked_on_its_source(models, tmp_path):
    """It says what the source can't do, and is for training alone where that is."""
    config, weights = saved(tmp_path, tiny_fcos())
    source = {'type': 'TransferAttack', 'config': config, 'checkpoint': weights}
    attack = build(ATTACKS, {**source, 'attack': {'type': 'ALMAProx', 'steps': 1}})
    with pytest.raises(TypeError, match='ALMAProx attacks segmentors, not FCOS'):
        attack(*models['detector'])
    for inner, alone in (({'type': 'NFGSM', 'eps': EPS}, True), ({'type': 'PGD', 'eps': EPS}, False)):
        assert build(ATTACKS, {**source, 'attack': inner}).for_training == alone
    with pytest.raises(ValueError, match='TransferAttack is for training alone'):
        AdversarialAttackHook({**source, 'attack': {'type': 'NFGSM', 'eps': EPS}}, phases=('test',))


class Data:
    metainfo = {'classes': ('road', 'person')}


def test_a_transferred_attack_passes_on_what_it_learns_of_the_data(models, tmp_path, monkeypatch):
    """The data set that is about to be tested, and the names of its classes."""
    config, weights = saved(tmp_path, tiny_segformer())
    goals = {'type': 'Targeted', 'goals': [{'source': 'road', 'target': 'person'}]}
    inner = {'type': 'PGD', 'eps': EPS, 'steps': 1, 'objective': goals}
    attack = build(ATTACKS, {'type': 'TransferAttack', 'config': config, 'checkpoint': weights, 'attack': inner})
    told = []
    monkeypatch.setattr(attack.attack, 'prepare', told.append)
    attack.prepare(Data)
    assert told == [Data]
    model, batch = models['segmentor']
    monkeypatch.setattr(model, 'dataset_meta', Data.metainfo, raising=False)
    found = attack(model, batch)
    assert max(float((a - c).abs().max()) for a, c in zip(found.images, found.clean, strict=True)) > 0
