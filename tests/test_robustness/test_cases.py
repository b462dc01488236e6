"""The suites: what they hold, and names that serve as folders."""

import os
import re
from itertools import product

import numpy as np
import pytest
from conftest import REPO
from helpers import tiny_segformer
from mmengine.registry import DefaultScope, init_default_scope
from test_attacks.test_per_image import saved
from test_robustness.benches import Scenes, bench, untrained

from paif_mm.attacks import APGD, PGD, Corruption, Square
from paif_mm.attacks.transfer import NoTransferError, load_source
from paif_mm.registry import ATTACKS, build
from paif_mm.robustness.cases import (
    CLEAN,
    DEFAULT_EPS,
    SPLITS,
    STEPS,
    SUITES,
    Case,
    bank_cases,
    config_case,
    corruption_cases,
    corruption_names,
    make_suite,
    nested,
    transfer_cases,
)
from paif_mm.robustness.evaluate import evaluate, finish_adversarial
from paif_mm.robustness.records import Records
from paif_mm.robustness.smallest_radius import smallest_radius_cases

SCORES = list(DEFAULT_EPS)


def suite(name, score='mIoU', **settings):
    return make_suite(name, score, DEFAULT_EPS[score], **settings)


@pytest.mark.parametrize('name', SUITES)
@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('threats', [('both',), ('ir', 'split', 'both', 'vis')])
def test_keys_are_unique_and_fit_for_folders(name, score, threats):
    keys = [case.key for case in suite(name, score, threats=threats)]
    assert keys[0] == 'clean'
    assert len({key.lower() for key in keys}) == len(keys)
    assert all(re.fullmatch(r'[a-z0-9][a-z0-9_.+-]*', key) for key in keys)


@pytest.mark.parametrize('name', SUITES)
@pytest.mark.parametrize('score', SCORES)
def test_every_case_can_be_built(name, score):
    for case in suite(name, score):
        attack = None if case.attack is None else build(ATTACKS, case.attack)
        assert (attack is None) == (case is CLEAN)
        if case.group is None:
            continue
        assert attack.norm == case.norm
        reach = sum(budget.eps for budget in attack.budgets(4))
        shares = 1 if '+' in case.threat or case.threat != 'both' or case.norm == 'l2' else len(attack.budgets(4))
        assert reach == pytest.approx(shares * case.eps * 255)


@pytest.mark.parametrize(('score', 'radii'), [('mIoU', (4, 8)), ('AP50', (1, 4))])
def test_the_papers_suite_is_pgd_of_five_steps_of_a_quarter_radius(score, radii):
    clean, *cases = suite('paper', score)
    assert clean is CLEAN
    assert [case.key for case in cases] == [f'pgd5-{radius}' for radius in radii]
    for case, radius in zip(cases, radii, strict=True):
        attack = build(ATTACKS, case.attack)
        assert type(attack) is PGD
        assert (attack.steps, attack.norm, attack.random_start, attack.restarts) == (5, 'linf', True, 1)
        budget = attack.budgets(4)[0]
        assert (budget.eps, budget.step_size) == (pytest.approx(radius), pytest.approx(radius / 4))


@pytest.mark.parametrize('score', SCORES)
def test_each_suite_contains_the_smaller_ones(score):
    keys = {name: {case.key for case in suite(name, score)} for name in SUITES}
    assert keys['paper'] < keys['strong'] < keys['full']
    assert keys['trouble'] < keys['full']


@pytest.mark.parametrize('score', SCORES)
def test_the_strong_suite_is_three_losses_under_one_schedule(score):
    cases = [case for case in suite('strong', score) if case.name.startswith('apgd')]
    assert len(cases) == 3 * len(DEFAULT_EPS[score])
    attacks = [build(ATTACKS, case.attack) for case in cases]
    assert all(type(attack) is APGD and attack.steps == STEPS['strong'] for attack in attacks)
    assert all([radius for _, radius in attack.stages] == [2, 1.5, 1] for attack in attacks)
    objectives = [str(case.attack['objective']) for case in cases]
    assert len(set(objectives)) == 3


@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('name', ['strong', 'full'])
def test_every_threat_and_norm_gets_the_whole_ensemble(name, score):
    """On pairs: both modalities, either, three splits; Square knows no L2; attacks on the fusion need both whole."""
    groups = {}
    for case in make_suite(name, score, (4 / 255,), ('both', 'ir', 'vis', 'split'), l2_eps=(1.0,)):
        if case.group is not None:
            groups.setdefault((case.norm, case.threat), set()).add(case.name)
    assert len(groups) == (2 if name == 'full' else 1) * 6
    ensemble = groups['linf', 'ir']
    assert {case.name for case in suite('strong', score)} - {'clean'} <= ensemble
    for (norm, threat), names in groups.items():
        names -= {'fusion20', 'weakest', 'hidden', 'disagree20'} if (norm, threat) == ('linf', 'both') else set()
        assert names == ensemble - ({'square'} if norm == 'l2' else set()), (norm, threat)


@pytest.mark.parametrize('score', SCORES)
def test_square_asks_for_the_strongest_loss(score):
    cases = {case.key: case for case in make_suite('full', score, (4 / 255,))}
    ensemble = {'mIoU': 'apgd_js-4', 'AP50': 'apgd_total-4'}[score]
    assert cases['square-4'].attack['objective'] == cases[ensemble].attack['objective']


def test_steps_and_queries_are_settings():
    cases = {case.key: case for case in suite('full', steps=7, queries=30)}
    assert {case.attack['steps'] for case in cases.values() if case.name.startswith('apgd')} == {7}
    assert build(ATTACKS, cases['square-4'].attack).steps == 30
    assert cases['square-4'].passes == 10, 'a query is a forward pass, a third of a step'
    assert {case.attack['steps'] for case in suite('full') if case.name.startswith('apgd')} == {STEPS['full']}


def test_threats_split_one_budget():
    cases = {case.key: case for case in suite('full') if case.name == 'apgd_mce' and case.norm == 'linf'}
    for radius in DEFAULT_EPS['mIoU']:
        level = f'{radius * 255:g}'
        assert cases[f'apgd_mce-{level}'].attack['eps'] == radius
        assert cases[f'apgd_mce-{level}-ir'].attack['eps'] == {'ir': radius}
        assert cases[f'apgd_mce-{level}-vis'].attack['eps'] == {'vis': radius}
        for share in SPLITS[1:-1]:
            case = cases[f'apgd_mce-{level}-ir{share * 100:g}+vis{100 - share * 100:g}']
            eps = case.attack['eps']
            assert eps['ir'] == pytest.approx(share * radius)
            assert eps['ir'] + eps['vis'] == pytest.approx(radius)
            assert case.eps == radius
    assert len(cases) == len(DEFAULT_EPS['mIoU']) * (1 + 2 + 3)


def test_threats_given_twice_are_tested_once():
    cases = suite('strong', threats=('ir', 'split', 'ir'))
    pgd = [case.threat for case in cases if case.name == 'pgd5' and case.eps == DEFAULT_EPS['mIoU'][0]]
    assert pgd == ['ir', 'vis', 'ir25+vis75', 'ir50+vis50', 'ir75+vis25']


def test_plain_images_and_models_without_fusion_lack_what_asks_for_them():
    fused = {case.key for case in suite('full')}
    alone = {case.key for case in suite('full', fused=False)}
    on_fusion = ('fusion20', 'weakest', 'hidden', 'disagree20')
    assert fused - alone == {f'{name}-{eps}' for name in on_fusion for eps in (4, 8)}
    plain = suite('full', fused=False, pairs=False)
    assert {case.threat for case in plain} == {'both'}
    assert {case.attack['name'] for case in plain if case.kind == 'corruption'} == {
        *('fog', 'low_light', 'rain', 'glare', 'blur', 'noise')
    }
    assert any(case.norm == 'l2' for case in plain)


@pytest.mark.parametrize('threats', [('ir',), ('vis', 'split')])
def test_attacks_on_both_modalities_are_made_where_both_are_asked_for(threats):
    cases = [case for case in suite('full', threats=threats) if case.eps is not None]
    assert 'both' not in {case.threat for case in cases}
    assert not {'fusion20', 'weakest', 'hidden', 'disagree20'} & {case.name for case in cases}


def test_the_docs_say_what_each_attack_on_the_fusion_and_each_smallest_radius_assumes():
    text = (REPO / 'docs' / 'robustness.md').read_text(encoding='utf-8')
    table = text.split('## What each attack assumes')[1].split('## ')[0]
    fused, alone = ({case.name for case in suite('full', fused=fusion)} for fusion in (True, False))
    for name in (fused - alone) | {case.key for case in smallest_radius_cases()}:
        assert f'`{name}`' in table, name


def test_corruptions_come_in_five_severities_and_cameras_fail_once():
    names = corruption_names()
    cases = corruption_cases(names)
    assert len(cases) == 5 * (len(names) - 2) + 2
    attacks = {case.key: build(ATTACKS, case.attack) for case in cases}
    assert len(attacks) == len(cases)
    assert all(isinstance(attack, Corruption) for attack in attacks.values())
    assert [attacks[f'fog{severity}'].severity for severity in (1, 2, 3, 4, 5)] == [1, 2, 3, 4, 5]
    assert {'missing_visible', 'missing_infrared'} < set(attacks)
    assert all(case.group is None and case.passes == 0 for case in cases)


def test_the_suite_of_trouble_holds_nothing_but_corruptions():
    for pairs, video, common in product((True, False), repeat=3):
        names = corruption_names(pairs, video, common)
        cases = make_suite('trouble', 'mIoU', (), pairs=pairs, corruptions=names)
        assert cases[0] is CLEAN
        assert {case.attack['name'] for case in cases[1:]} == set(names)
        assert {case.kind for case in cases[1:]} == {'corruption'}
        assert ('time_offset' in names) == video and pairs or 'time_offset' not in names
        assert ('shift' in names) == ('missing_visible' in names) == pairs
        assert sum(name.startswith('common_') for name in names) == 15 * common
    assert corruption_cases(['fog'])[0].key == 'fog1'


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'suite': 'weak'}, "suite must be one of paper, strong, full, trouble, not 'weak'"),
        ({'threats': ('thermal',)}, "modality must be of both, ir, vis, split, not 'thermal'"),
        ({'threats': ('ir',), 'pairs': False}, "modality 'ir' needs pairs"),
        ({'threats': ('both', 'split'), 'pairs': False}, "modality 'split' needs pairs"),
    ],
)
def test_unknown_words_are_refused(settings, message):
    settings = {'suite': 'paper', 'score': 'mIoU', 'eps': [4 / 255], **settings}
    with pytest.raises(ValueError, match=message):
        make_suite(**settings)


def test_cases_of_one_radius_norm_and_threat_form_a_group():
    cases = {case.key: case for case in suite('full')}
    assert cases['pgd5-4'].group == cases['apgd_js-4'].group == cases['square-4'].group == ('linf', 4 / 255, 'both')
    others = ['pgd5-8', 'apgd_mce-4-ir', 'apgd_mce-4-ir25+vis75', 'apgd_mce-l2_1']
    groups = [cases[key].group for key in others]
    assert len({cases['pgd5-4'].group, *groups}) == 5
    assert CLEAN.group is None


def test_a_case_of_any_config():
    case = config_case('mine', {'type': 'PGD', 'eps': 2 / 255, 'steps': 30, 'restarts': 4})
    assert (case.key, case.group, case.passes) == ('mine-2', ('linf', 2 / 255, 'both'), 120)
    l2 = config_case('mine', {'type': 'PGD', 'eps': 0.5, 'norm': 'l2'})
    assert (l2.key, l2.group) == ('mine-l2_0.5', ('l2', 0.5, 'both'))
    per_modality = config_case('mine', {'type': 'PGD', 'eps': {'ir': 4 / 255}})
    assert (per_modality.key, per_modality.group) == ('mine-4-ir', ('linf', 4 / 255, 'ir'))
    assert config_case('fog', {'type': 'Corruption', 'name': 'fog'}).kind == 'corruption'
    square = config_case('sq', {'type': 'Square', 'eps': 4 / 255, 'queries': 10})
    assert square.kind == 'query'
    assert isinstance(build(ATTACKS, square.attack), Square)


def test_transferred_attacks_join_the_group_of_what_they_change(tmp_path):
    files, _ = saved(tmp_path, tiny_segformer(), seed=1)
    case, ir = transfer_cases(*files, [4 / 255], ('both', 'ir'))
    assert (case.key, case.kind, case.group) == ('transfer20-4', 'transfer', ('linf', 4 / 255, 'both'))
    assert (ir.key, ir.group) == ('transfer20-4-ir', ('linf', 4 / 255, 'ir'))
    assert case.attack['attack']['eps'] == 4 / 255
    assert PGD(**{key: value for key, value in case.attack['attack'].items() if key != 'type'}).keep == 'last'
    with pytest.raises(NoTransferError, match='fuses pairs, but the attacked images have 3 channels'):
        transfer_cases(*files, [4 / 255], channels=3)


def test_what_a_visible_source_finds_is_in_the_visible_worst_case(tmp_path):
    config = tiny_segformer()
    config.data_preprocessor = config.data_preprocessor.task
    files, _ = saved(tmp_path, config, seed=1)
    (case,) = transfer_cases(*files, [4 / 255], ('both', 'ir', 'vis'))
    assert case.group == ('linf', 4 / 255, 'vis')
    found = nested([*make_suite('paper', 'mIoU', (4 / 255,), ('both', 'ir', 'vis')), case], 4, 64)
    assert {threat for (*_, threat), keys in found.items() if case.key in keys} == {'both', 'vis'}
    (plain,) = transfer_cases(*files, [4 / 255], channels=3)
    assert plain.group == ('linf', 4 / 255, 'both')


def test_a_source_is_loaded_once_and_the_default_library_stays(tmp_path):
    files, _ = saved(tmp_path, tiny_segformer(), seed=1)
    init_default_scope('mmdet')
    assert load_source(*files) is load_source(*files)
    assert DefaultScope.get_current_instance().scope_name == 'mmdet'
    first = load_source(*files)
    (tmp_path / 'other').mkdir()
    other, _ = saved(tmp_path / 'other', tiny_segformer(), seed=3)
    assert load_source(*other) is not first and load_source(*files) is first, 'attacks of two sources take turns'
    saved(tmp_path, tiny_segformer(), seed=2)
    os.utime(files[1], ns=(0, 0))
    assert load_source(*files) is not first, 'another file of that name'


def test_a_case_is_written_down_with_its_key():
    assert Case('pgd5', {'type': 'PGD'}, 4 / 255).to_dict() == {
        'name': 'pgd5',
        'attack': {'type': 'PGD'},
        'eps': 4 / 255,
        'threat': 'both',
        'norm': 'linf',
        'kind': 'gradient',
        'passes': 1.0,
        'further': False,
        'key': 'pgd5-4',
    }


@pytest.mark.parametrize(
    ('changed', 'threats'), [((3,), {'both', 'ir'}), ((0, 2), {'both', 'vis'}), ((1, 3), {'both'})]
)
def test_a_universal_perturbation_of_one_modality_is_in_its_worst_case(tmp_path, changed, threats):
    """Read off the file: whatever it was learned on."""
    delta = np.zeros((4, 8, 8), np.float32)
    delta[list(changed)] = 4
    np.save(tmp_path / 'u.npy', delta)
    case = config_case('universal', {'type': 'UniversalPerturbation', 'file': str(tmp_path / 'u.npy'), 'eps': 4 / 255})
    assert case.threat == (threats - {'both'} or {'both'}).pop()
    found = nested([*make_suite('strong', 'mIoU', (4 / 255,), ('both', 'ir', 'vis')), case], 4, 64)
    assert {threat for (*_, threat), keys in found.items() if case.key in keys} == threats


def test_levels_of_a_saved_bank_are_in_the_worst_case_of_their_modality(tmp_path):
    it = bench(untrained(), Scenes(2))
    cases = make_suite('paper', 'mIoU', (4 / 255,), ('both', 'ir', 'vis', 'split'))
    records = Records(tmp_path, {})
    evaluate(it, cases, records, quality=False, save_adv=True, progress=False)
    records.close()
    finish_adversarial(it, cases, tmp_path)
    folder = str(tmp_path / 'adv')
    levels = bank_cases(folder)
    found = nested([*cases, *levels], 4, 48 * 64)
    for case, level in zip([case for case in cases if case.group], levels, strict=True):
        assert level.kind == 'transfer' and (level.group == case.group or case.threat == 'ir50+vis50')
        assert level.ball(4).contains(case.ball(4), 1)
        assert {group for group, keys in found.items() if case.key in keys} == {
            group for group, keys in found.items() if level.key in keys
        }
    evaluate(it, levels, records := Records(tmp_path / 'shown', {}), quality=False, progress=False)
    records.close()
