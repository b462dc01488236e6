"""Where each image falls: what is noted, the check of the suite, the table and the picture."""

import json

import numpy as np
import pytest
from test_robustness.benches import Scenes, bench, trained

from paif_mm.evaluation.score import MeanIoU
from paif_mm.robustness.cases import CLEAN, Case, config_case
from paif_mm.robustness.comparison import _smallest
from paif_mm.robustness.curves import draw_smallest_radius
from paif_mm.robustness.diagnostics import Finding, overall
from paif_mm.robustness.evaluate import evaluate
from paif_mm.robustness.pages import page
from paif_mm.robustness.records import Records
from paif_mm.robustness.smallest_radius import (
    check_against_suite,
    fallen_at,
    quantile,
    smallest_radii,
    smallest_radius_cases,
    smallest_radius_table,
)

IMAGES = ['a', 'b', 'c', 'd']


def record(right: int, level: float = 0.0, l2: float = 0.0, labelled: int = 100) -> dict:
    """Of an image of so many right pixels, changed by so much."""
    score = {'intersect': [right, 0], 'union': [labelled, 0], 'labelled': labelled, 'sizes': [[0, 0]] * 3}
    return {'score': score, 'pixels': 48, 'audit': {'max_delta_255': {'ir': level, 'vis': level / 2}, 'l2': l2}}


def noted(tmp_path, **cases) -> Records:
    records = Records(tmp_path, {})
    for case, found in cases.items():
        for image, it in zip(IMAGES, found, strict=True):
            records.add(case.replace('__', '-'), image, it)
    return records


ALMA = smallest_radius_cases(('linf',), 50)
PGD5 = Case('pgd5', {'type': 'PGD', 'eps': 4 / 255}, 4 / 255)
STRONG = Case('apgd', {'type': 'APGD', 'eps': 4 / 255}, 4 / 255)


@pytest.fixture
def found(tmp_path):
    """Four images: one falls at 2/255, one at 3, one far away, one has no label."""
    records = noted(
        tmp_path,
        clean=[record(95), record(95), record(95), record(0, labelled=0)],
        alma90_linf=[record(10, 2.0), record(9, 3.0), record(10, 20.0), record(0, 0.0, labelled=0)],
        alma99_linf=[record(1, 3.0), record(1, 5.0), record(60, 30.0), record(0, 0.0, labelled=0)],
        pgd5__4=[record(50), record(8), record(90), record(0, labelled=0)],
        apgd__4=[record(30), record(20), record(80), record(0, labelled=0)],
    )
    cases = [CLEAN, *ALMA, PGD5, STRONG]
    return smallest_radii(cases, records, IMAGES, MeanIoU), cases, records


def test_the_radius_is_the_largest_change_where_enough_pixels_are_wrong(found):
    ninety, all_but_one = found[0]
    assert (ninety['key'], ninety['norm'], ninety['share']) == ('alma90_linf', 'linf', 0.9)
    assert [r and round(r * 255, 6) for r in ninety['radius']] == [2, 3, 20, None]
    assert [r and round(r * 255, 6) for r in all_but_one['radius']] == [3, 5, None, None]
    assert ninety['accuracy'] == [0.1, 0.09, 0.1, None]
    assert (fallen_at(all_but_one) * 255).tolist() == pytest.approx([3, 5, np.inf])
    json.dumps(found[0])


def test_images_without_labels_have_no_radius():
    none = {'key': 'alma90_linf', 'norm': 'linf', 'share': 0.9, 'radius': [None], 'accuracy': [None]}
    none |= {'threat': 'both', 'attack': 'ALMAProx'}
    assert quantile(none, 0.5) == '-'
    table = smallest_radius_table([none])
    assert set(table['rows'][0][1:]) == {'-', ''}


def test_l2_radii_are_lengths(tmp_path):
    cases = smallest_radius_cases(('l2',), 7)
    assert [case.attack for case in cases] == [
        {'type': 'ALMAProx', 'share': share, 'norm': 'l2', 'steps': 7} for share in (0.9, 0.99)
    ]
    records = noted(tmp_path, **{case.key: [record(1, 9.0, 0.5)] * 4 for case in cases})
    assert smallest_radii(cases, records, IMAGES, MeanIoU)[0]['radius'] == [0.5] * 4


def test_an_image_that_falls_where_the_suite_says_it_survives_is_flagged(found):
    """a: the suite leaves 30 % at 4/255, the smallest radius 1 % at 3/255. b: 8 %, and 9 % at 3/255."""
    finding = check_against_suite(found[0], *found[1:], IMAGES, MeanIoU)
    assert finding.verdict == 'suspect'
    assert finding.figures['compared'] == 3
    assert finding.figures['missed'] == {'4/255': {'a': pytest.approx(0.29)}}
    assert finding.evidence.endswith('claims that more is left: at 4/255 1 images, 29% of the pixels at most')


def test_a_suite_that_knew_passes(found):
    records = found[2]
    records.add('apgd-4', 'a', record(1))
    finding = check_against_suite(found[0], *found[1:], IMAGES, MeanIoU)
    assert (finding.verdict, finding.figures['missed']) == ('passed', {})


def test_a_search_that_needs_more_than_the_suite_is_told_and_is_no_fault_of_the_suite(found):
    """c falls at 20/255 by the search that makes 90 % wrong, and not at all by the other; the suite does it at 4."""
    found[2].add('apgd-4', 'c', record(5))
    found[2].add('apgd-4', 'a', record(1))
    finding = check_against_suite(found[0], *found[1:], IMAGES, MeanIoU)
    assert (finding.verdict, finding.figures['behind']) == ('passed', 1)
    assert finding.evidence.endswith('; 1 times the suite did as much within a smaller radius than the search found')
    found[2].add('apgd-4', 'c', record(1))
    found[2].add('apgd-4', 'b', record(1))
    behind = check_against_suite(found[0], *found[1:], IMAGES, MeanIoU).figures['behind']
    assert behind == 3, 'c by both searches, b by the one that makes 99 % wrong, at 5/255'


def test_nothing_is_said_where_nothing_was_compared(found):
    """Not of a suite without attacks, nor at a radius below that of any image, nor on another modality."""
    smallest, cases, records = found
    tiny = Case('pgd5', {'type': 'PGD', 'eps': 1 / 255}, 1 / 255)
    ir = Case('pgd5', {'type': 'PGD', 'eps': {'ir': 4 / 255}}, 4 / 255, 'ir')
    for key in (tiny.key, ir.key):
        for image in IMAGES:
            records.add(key, image, record(50))
    for others in ((), (tiny,), (ir,)):
        finding = check_against_suite(smallest, [CLEAN, *ALMA, *others], records, IMAGES, MeanIoU)
        assert (finding.verdict, finding.figures['compared']) == ('not run', 0), others
        assert overall([finding.to_dict()]) == 'not run'


def test_a_comparison_of_radii_is_no_check_of_gradients(found):
    """It lowers the verdict, and raises none."""
    found[2].add('apgd-4', 'a', record(1))
    passed = check_against_suite(found[0], *found[1:], IMAGES, MeanIoU).to_dict()
    masking = Finding('repeatability', 'not run', '').to_dict()
    assert passed['verdict'] == 'passed'
    assert overall([passed]) == overall([masking, passed]) == 'not run'
    assert overall([{**masking, 'verdict': 'passed'}, passed]) == 'passed'
    assert overall([{**masking, 'verdict': 'passed'}, {**passed, 'verdict': 'suspect'}]) == 'suspect'


def test_a_claim_is_that_of_all_attacks_in_the_ball(found):
    """What leaves a 1 % at 2/255, or on infrared alone, is known at 4/255 on both."""
    smallest, cases, records = found
    for inside in (
        Case('pgd5', {'type': 'PGD', 'eps': 2 / 255}, 2 / 255),
        Case('pgd5', {'type': 'PGD', 'eps': {'ir': 4 / 255}}, 4 / 255, 'ir'),
    ):
        for image in IMAGES:
            records.add(inside.key, image, record(1))
        finding = check_against_suite(smallest, [*cases, inside], records, IMAGES, MeanIoU)
        assert (finding.verdict, finding.figures['missed']) == ('passed', {})


def test_a_modality_alone_has_radii_of_its_own(tmp_path):
    """They count against the suite's attacks on it, and on both."""
    cases = smallest_radius_cases(('linf',), 50, ('ir',))
    assert [(case.key, case.attack.get('modality')) for case in cases] == [
        ('alma90_linf-ir', 'ir'),
        ('alma99_linf-ir', 'ir'),
    ]
    assert [case.threat for case in smallest_radius_cases(('l2',), 5, ('both', 'split'))[::2]] == ['both', 'vis', 'ir']
    assert config_case('mine', {'type': 'ALMAProx', 'modality': 'vis'}).key == 'mine-vis'
    threats = {'ir': {'ir': 4 / 255}, 'vis': {'vis': 4 / 255}, 'both': 4 / 255}
    attacks = {threat: Case('pgd5', {'type': 'PGD', 'eps': eps}, 4 / 255, threat) for threat, eps in threats.items()}
    records = Records(tmp_path, {})
    for case in (CLEAN, cases[0], *attacks.values()):
        for image in IMAGES:
            records.add(case.key, image, record(5, 2.0) if case is cases[0] else record(50))
    for threat, verdict in (('ir', 'suspect'), ('both', 'suspect'), ('vis', 'not run')):
        every = [CLEAN, cases[0], attacks[threat]]
        smallest = smallest_radii(every, records, IMAGES, MeanIoU)
        assert check_against_suite(smallest, every, records, IMAGES, MeanIoU).verdict == verdict, threat
    assert smallest_radius_table(smallest)['rows'][0][0] == '90 % wrong, L-inf, /255, ir'
    assert '90 % of the pixels wrong, ir' in draw_smallest_radius({'smallest_radius': smallest})


def test_a_config_without_a_share_has_that_of_the_attack(tmp_path):
    case = config_case('mine', {'type': 'ALMAProx', 'steps': 5})
    records = noted(tmp_path, mine=[record(1, 3.0), record(30, 4.0), record(0, 5.0), record(0, labelled=0)])
    (found,) = smallest_radii([case], records, IMAGES, MeanIoU)
    assert found['share'] == 0.99
    assert [r is not None for r in found['radius']] == [True, False, True, False]


def test_table_and_picture_show_where_images_fall(found):
    table = smallest_radius_table(found[0])
    assert table['head'][:5] == ['pixels', 'first image', 'a quarter', 'median', 'three quarters']
    assert table['rows'][0] == ['90 % wrong, L-inf, /255', '2', '2', '3', '20', '0%', '33%', '67%', '67%', '67%']
    assert table['rows'][1] == ['99 % wrong, L-inf, /255', '3', '3', '5', 'inf', '0%', '0%', '33%', '67%', '67%']
    drawn = draw_smallest_radius({'smallest_radius': found[0]})
    assert '99 % of the pixels wrong' in drawn
    assert draw_smallest_radius({}) == ''


def test_models_are_compared_by_the_radius_at_which_half_of_their_images_fall():
    """And not by what is left at radii that differ from model to model; nor where one search took more steps."""

    def report(radii: list, steps: int) -> dict:
        attack = {'type': 'ALMAProx', 'share': 0.99, 'norm': 'linf', 'steps': steps}
        found = {'key': 'alma99_linf', 'attack': 'ALMAProx', 'norm': 'linf', 'threat': 'both', 'share': 0.99}
        found |= {'radius': [r and r / 255 for r in radii], 'accuracy': [0.01 if r else 0.5 for r in radii]}
        return {'smallest_radius': [found], 'rows': [{'key': 'alma99_linf', 'kind': 'minimum', 'attack': attack}]}

    a, b, unequal = report([1, 2, 4, 8], 50), report([3, None, None, None], 50), report([1, 1, 1, 1], 500)
    (section,) = _smallest({'a': a, 'b': b})
    assert section.head == ['pixels', 'a', 'b']
    assert section.rows == [['99 % wrong, L-inf, /255', '2', 'inf']]
    assert '<td class="number">inf</td>' in page('models', [section], {})
    assert _smallest({'a': a, 'b': unequal}) == _smallest({'a': a, 'b': {'rows': []}}) == []


def test_a_weak_suite_is_found_out_on_a_segmentor(tmp_path):
    """One step of PGD leaves most pixels at 16/255; ALMA prox makes nine of ten wrong below that."""
    it, records = bench(trained(), Scenes(2)), Records(tmp_path, {})
    weak = config_case('pgd1', {'type': 'PGD', 'eps': 16 / 255, 'steps': 1})
    cases = [CLEAN, weak, *smallest_radius_cases(('linf',), 60)[:1]]
    assert config_case('mine', cases[2].attack).kind == 'minimum'
    evaluate(it, cases, records, quality=False, progress=False)
    records.close()
    names = list(it.names.values())
    smallest = smallest_radii(cases, records, names, it.score)
    assert all(0 < radius < 16 / 255 for radius in smallest[0]['radius'])
    finding = check_against_suite(smallest, cases, records, names, it.score)
    assert finding.verdict == 'suspect'
    assert set(finding.figures['missed']['16/255']) == set(names)
