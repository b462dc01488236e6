"""Reports of records that were made by hand: worst cases over nested balls, and words for what is left."""

import re

import numpy as np
import pytest
from test_robustness.test_statistics import CLASSES, segmented

from paif_mm.evaluation.score import MeanIoU
from paif_mm.robustness import comparison as module
from paif_mm.robustness.balls import Ball
from paif_mm.robustness.cases import CLEAN, config_case, make_suite, threat_ball
from paif_mm.robustness.comparison import compare
from paif_mm.robustness.curves import draw_curves
from paif_mm.robustness.diagnostics import Finding
from paif_mm.robustness.pages import read_report
from paif_mm.robustness.records import Records, read_records
from paif_mm.robustness.report import main_threat, make_report, row_of, threats_of
from paif_mm.robustness.sections import sections
from paif_mm.robustness.statistics import Bootstrap

IMAGES = ['00001D.png', '00002N.png', '00003D.png', '00004N.png']
FACTS = {
    'model': {'type': 'A', 'config': 'a.py', 'fused': True, 'pairs': True, 'checkpoint': '', 'config_hash': ''},
    'data': {'type': 'MSRSDataset', 'of': 4, 'hash': '', 'scenes': [name[:5] for name in IMAGES]},
    'settings': {'steps': 100},
    'bootstrap': {'resamples': 200, 'level': 0.95, 'seed': 0, 'blocks': 'single images', 'length': 1, 'key': None},
    'versions': {},
    'model_unchanged': True,
}
FACTS['model']['checkpoint_hash'] = ''


def reported(folder, cases, record, pixels: int = 48, facts=FACTS, images=IMAGES) -> dict:
    """A report in which ``record(case, image)`` tells (right, predicted wrongly, missed) of both classes."""
    records = Records(folder, {})
    for case in cases:
        for image in images:
            counts = record(case, image)
            score = segmented(*counts)
            score['area'] = [right + missed for right, _, missed in counts]
            records.add(case.key, image, {'score': score, 'loss': 1.0, 'pixels': pixels})
    records.close()
    return make_report(cases, records, images, MeanIoU, CLASSES, Bootstrap(4, 20), facts=facts)


def at_random(seed):
    """Labels of 60 and 40 pixels; chance tells what is right under each attack."""
    rng = np.random.default_rng(seed)

    def record(case, image):
        wall, person = int(rng.integers(0, 61)), int(rng.integers(0, 41))
        return (wall, 40 - person, 60 - wall), (person, 60 - wall, 40 - person)

    return record


def test_a_threat_that_further_attacks_alone_use_is_no_threat_of_the_report(tmp_path):
    """Else two of them would be 'the worst case on both modalities', and take the first words from what was asked."""
    more = [config_case(name, {'type': 'PGD', 'eps': 4 / 255}) for name in ('mine', 'yours')]
    report = reported(tmp_path, [*make_suite('strong', 'mIoU', (4 / 255,), ('ir',)), *more], at_random(0))
    assert [row['key'] for row in report['rows'] if row['kind'] == 'worst'] == ['worst case-4-ir']
    assert threats_of(report) == ['ir'] and main_threat(report) == main_threat(report, 4 / 255) == 'ir'
    ours = config_case('mine', {'type': 'PGD', 'eps': {'ir': 4 / 255}})
    report = reported(tmp_path / 'ir', [*make_suite('paper', 'mIoU', (4 / 255,), ('ir',)), ours], at_random(0))
    (worst,) = (row for row in report['rows'] if row['kind'] == 'worst')
    assert worst['members'] == ['clean', 'pgd5-4-ir', 'mine-4-ir']


def test_many_curves_are_told_apart(tmp_path):
    more = [config_case(f'mine{i}', {'type': 'PGD', 'eps': 4 / 255}) for i in range(9)]
    drawn = draw_curves(reported(tmp_path, [*make_suite('strong', 'mIoU', (4 / 255,)), *more], at_random(0)))
    lines = re.findall(r'fill: none; (stroke-dasharray: [\d., ]+; stroke-dashoffset: 0; )?stroke: (#\w+);', drawn)
    curves = {line for line in lines if line[1].startswith('#') and line[1] not in ('#000000', '#b0b0b0', '#808080')}
    assert len(curves) == 13


@pytest.mark.parametrize('seed', range(3))
def test_no_worst_case_is_above_an_attack_inside_of_its_ball(tmp_path, seed):
    """Radii, modalities, splits and norms of the full suite, the clean images included; all, by day and by night."""
    cases = [
        case for case in make_suite('full', 'mIoU', (2 / 255, 4 / 255), l2_eps=(0.005, 9)) if case.kind != 'corruption'
    ]
    report = reported(tmp_path, cases, at_random(seed))
    rows = {row['key']: row for row in report['rows']}
    worst = {key: row for key, row in rows.items() if row['kind'] == 'worst'}
    assert len(worst) == 2 * (3 + 3) + 2
    inside = {key: set(row['members']) for key, row in worst.items()}
    assert inside['worst case-2-ir'] < inside['worst case-2'] < inside['worst case-4']
    assert inside['worst case-2-ir'] < inside['worst case-4-ir']
    assert inside['worst case-2-ir25+vis75'] < inside['worst case-4-ir25+vis75'] < inside['worst case-4']
    assert inside['worst case-l2_0.005'] < inside['worst case-2'], 'a value changes by no more than the norm'
    assert inside['worst case-4'] < inside['worst case-l2_9'], '4/255 x sqrt(4 x 48) = .22'
    assert not inside['worst case-4-vis'] & {'pgd5-4-ir', 'pgd5-2-ir'}
    assert all('clean' in keys for keys in inside.values())
    none_is_above_what_it_contains(report)


@pytest.mark.parametrize('seed', range(12))
def test_worst_cases_of_any_suite_are_nested(tmp_path, seed):
    """Radii, threats and suites drawn at random."""
    rng = np.random.default_rng(seed)
    threats = rng.choice(['both', 'ir', 'vis', 'split'], rng.integers(1, 4), replace=False).tolist()
    radii = (rng.choice([1, 2, 4, 8], 2, replace=False) / 255).tolist()
    cases = make_suite(rng.choice(['paper', 'strong']), 'mIoU', radii, threats)
    mine = {'ir': float(rng.uniform(0, 4)) / 255, 'vis': float(rng.uniform(0, 4)) / 255}
    cases.append(config_case('mine', {'type': 'PGD', 'eps': mine}))
    none_is_above_what_it_contains(reported(tmp_path, cases, at_random(seed)))


def none_is_above_what_it_contains(report):
    """No figure of a worst case is above that of a member, or of a worst case inside of its ball."""
    rows = {row['key']: row for row in report['rows']}
    worst = {key: row for key, row in rows.items() if row['kind'] == 'worst'}
    inside = {key: set(row['members']) for key, row in worst.items()}
    for key, row in worst.items():
        below = [rows[name] for name in row['members']] + [worst[o] for o in worst if inside[o] <= inside[key]]
        for other in below:
            for group in ('all', 'day', 'night'):
                for name in ('mIoU', 'mIoU_paper', 'aAcc'):
                    lower, upper = (it['figures'][group][name]['value'] for it in (row, other))
                    assert lower <= upper + 1e-3, (key, other['key'], group, name)


def test_day_and_night_choose_for_themselves(tmp_path):
    """By day the first attack is the worse one, by night the second, and of all images together neither."""
    cases = make_suite('strong', 'mIoU', (4 / 255,))[:3]

    def record(case, image):
        bad = {'pgd5': 'D', 'apgd_js': 'N'}.get(case.name) == image[5]
        return ((50, 30, 10), (10, 10, 30)) if bad else ((60, 0, 0), (40, 0, 0))

    report = reported(tmp_path, cases, record)
    worst = report['rows'][-1]
    for group in ('day', 'night', 'all'):
        assert worst['figures'][group]['mIoU']['value'] == pytest.approx(100 * (50 / 90 + 10 / 50) / 2, abs=1e-3)
    for row in report['rows'][1:3]:
        assert row['figures']['all']['mIoU']['value'] > worst['figures']['all']['mIoU']['value'] + 10


def words(report) -> str:
    return sections(report)[0].text


def test_the_summary_says_whether_anything_is_left(tmp_path):
    """Two classes of 60 and 40 pixels: calling all wall has (60 / 100 + 0) / 2 = 30."""
    cases = make_suite('strong', 'mIoU', (4 / 255, 8 / 255))

    def record(case, image):
        if case.eps is None:
            return (60, 0, 0), (40, 0, 0)
        right = 40 if case.eps < 5 / 255 else 0
        return (right, 40 - right, 60 - right), (right, 60 - right, 40 - right)

    report = reported(tmp_path, cases, record)
    assert report['constant']['answer'] == 'wall'
    assert report['constant']['figures']['all']['mIoU']['value'] == pytest.approx(30)
    assert report['constant']['figures']['night']['aAcc']['value'] == pytest.approx(60)
    text = words(report)
    assert 'mIoU 100.0 [100.0, 100.0] % on clean images: 70.0 [70.0, 70.0] points above the constant answer.' in text
    value = row_of(report, 'worst case', 4 / 255)['figures']['all']['mIoU']['value']
    assert f'{value:.1f}] % in the worst case: something is left, {value - 30:.1f}' in text
    assert '0.0 [0.0, 0.0] % in the worst case: nothing is left, the constant answer scores as much.' in text
    assert "calling every pixel 'wall' has mIoU 30.0" in text


def test_every_radius_names_the_threat_under_which_least_is_left(tmp_path):
    """Of two threats the second is the worse one at 4/255, and the first at 8/255."""
    cases = make_suite('strong', 'mIoU', (4 / 255, 8 / 255), ('ir', 'vis'))
    right = {('ir', 4): 50, ('vis', 4): 40, ('ir', 8): 10, ('vis', 8): 30}

    def record(case, image):
        good = 60 if case.eps is None else right[case.threat, round(case.eps * 255)]
        return (good, 0, 60 - good), (40, 60 - good, 0)

    report = reported(tmp_path, cases, record)
    text = words(report)
    for eps, where in ((4, 'the visible image alone'), (8, 'infrared alone')):
        threat = 'vis' if eps == 4 else 'ir'
        value = row_of(report, 'worst case', eps / 255, threat)['figures']['all']['mIoU']['value']
        assert f'At {eps}/255 on {where}, the lowest of ir, vis, {value:.1f} [' in text
    table = next(section for section in sections(report) if section.title == 'Worst case')
    assert [row[0] for row in table.rows[1:5]] == ['4/255, ir', '4/255, vis', '8/255, ir', '8/255, vis']
    alone = reported(tmp_path / 'alone', make_suite('paper', 'mIoU', (4 / 255,), ('ir',)), record)
    value = row_of(alone, 'pgd5', 4 / 255, 'ir')['figures']['all']['mIoU']['value']
    assert f'At 4/255 on infrared alone, {value:.1f} [' in words(alone)
    both = reported(tmp_path / 'both', make_suite('paper', 'mIoU', (4 / 255,)), at_random(0))
    assert 'At 4/255 on both modalities, ' in words(both)
    both['model'] = {**both['model'], 'pairs': False}
    assert f'At 4/255 {row_of(both, "pgd5", 4 / 255)["figures"]["all"]["mIoU"]["value"]:.1f} [' in words(both)


def test_a_report_speaks_of_what_was_asked_for_whatever_else_was_attacked(tmp_path):
    """An attack on both beside a suite on infrared alone; at its own radius, at the suite's, and at a larger one."""
    mine = [config_case(f'mine{eps}', {'type': 'PGD', 'eps': eps / 255}) for eps in (2, 4, 16)]
    for name in ('paper', 'strong'):
        report = reported(tmp_path / name, [*make_suite(name, 'mIoU', (4 / 255,), ('ir',)), *mine], at_random(0))
        assert threats_of(report) == ['ir']
        assert main_threat(report) == main_threat(report, 4 / 255) == 'ir'
        row = row_of(report, 'worst case' if name == 'strong' else 'pgd5', 4 / 255)
        value = row['figures']['all']['mIoU']['value']
        assert 'At 4/255 on infrared alone, ' in words(report)
        assert f'{value:.1f} [' in words(report)
    cases = [*make_suite('full', 'mIoU', (4 / 255,), ('ir',), steps=3), *mine]
    report = reported(tmp_path / 'full', [case for case in cases if case.kind != 'corruption'], at_random(0))
    assert 'both' not in threats_of(report)
    assert re.search(r'At 4/255 on [^,]*, the lowest of ir, vis, ir25\+vis75', words(report))


def test_reports_of_earlier_corruptions_are_refused(tmp_path):
    """Since version 2 corruptions draw other numbers: figures of both do not stand side by side."""
    (tmp_path / 'report.json').write_text('{"version": 2}')
    with pytest.raises(ValueError, match=r'is of another version \(2, not 3\): run tools/robustness.py again'):
        read_report(tmp_path)


def test_gradients_that_were_not_finite_are_said_first(tmp_path):
    report = reported(tmp_path, make_suite('paper', 'mIoU', (4 / 255,)), at_random(0))
    assert 'not finite' not in words(report)
    report['rows'][1]['audit'] = {'max_delta_255': {}, 'max_l2': 0.0, 'at_bound': 0.0, 'blind': 3}
    for kind in ('transfer', 'fusion', 'query'):
        report['rows'][1]['kind'] = kind
        assert 'not finite' not in words(report), "other gradients say nothing of the model's own loss"
    report['rows'][1]['kind'] = 'gradient'
    assert 'In 3 of 4 attacks with gradients on single images some values of these were not finite' in words(report)


def test_the_published_protocol_is_named_beside_its_own_attacks(tmp_path):
    mine = config_case('apgd100', {'type': 'APGD', 'eps': 4 / 255})
    for cases, named in ((make_suite('strong', 'mIoU', (4 / 255,)), True), ([CLEAN, mine], False)):
        report = reported(tmp_path / str(named), cases, at_random(0))
        assert ('SEA, the published protocol' in words(report)) == named


def test_a_failed_masking_verdict_is_part_of_the_first_words(tmp_path):
    report = reported(tmp_path, make_suite('paper', 'mIoU', (4 / 255,)), at_random(0))
    verdicts = {'repeatability': 'failed', 'more steps and restarts': 'suspect', 'input gradients': 'passed'}
    findings = [{**Finding(*both, 'evidence').to_dict(), 'images': 4} for both in verdicts.items()]
    report['masking'] = {'verdict': 'failed', 'findings': findings}
    said = 'Gradient masking: failed (repeatability), suspect (more steps and restarts). What attacks with gradients'
    assert said in words(report)
    report['masking'] = {'verdict': 'suspect', 'findings': findings[1:]}
    assert 'Gradient masking: suspect (more steps and restarts).' in words(report)
    report['masking'] = {'verdict': 'passed', 'findings': findings[2:]}
    assert 'Gradient masking: passed.' in words(report)


def test_the_papers_rows_stand_beside_its_own_data_alone(tmp_path):
    cases = make_suite('paper', 'mIoU', (4 / 255,))
    for kind, count, shown in (('MSRSDataset', 393, False), ('MFNetDataset', 4, False), ('MFNetDataset', 393, True)):
        facts = {**FACTS, 'data': {**FACTS['data'], 'type': kind, 'of': count}}
        report = reported(tmp_path / f'{kind}{count}', cases, at_random(0), facts=facts)
        table = next(section for section in sections(report) if section.title == 'Worst case')
        assert any('paper' in cell for cell in table.head) == shown
        assert ('PAIF (ACM MM 2023)' in table.text) == shown
        assert table.rows[-1][:2] == ['constant answer', '30.0']


def test_balls_contain_what_stays_inside():
    both, ir = threat_ball('linf', 4 / 255, 'both', 4), threat_ball('linf', 4 / 255, 'ir', 4)
    split = threat_ball('linf', 4 / 255, 'ir25+vis75', 4)
    l2 = threat_ball('l2', 1.0, 'both', 4)
    assert both.contains(ir, 9)
    assert both.contains(split, 9)
    assert not ir.contains(split, 9)
    assert not ir.contains(both, 9)
    assert all(ball.contains(ball, 9) and ball.contains(Ball(), 9) for ball in (both, ir, split, l2))
    assert not Ball().contains(ir, 9)
    pixels = int((255 / 4) ** 2 / 4)  # 4/255 x sqrt(4 channels x pixels) <= 1
    assert l2.contains(both, pixels)
    assert not l2.contains(both, pixels + 1)
    assert l2.contains(ir, 4 * pixels)
    assert not both.contains(l2, 1)
    assert threat_ball('linf', 1.0, 'both', 4).contains(l2, 10**6)
    per_modality = Ball('l2', ((0, 3, 0.6), (3, 4, 0.8)))
    assert l2.contains(per_modality, 1)
    assert not per_modality.contains(l2, 1)
    assert not Ball('l2', ((0, 3, 0.6), (3, 4, 0.7))).contains(per_modality, 1)


@pytest.mark.parametrize(
    ('attack', 'key', 'group'),
    [
        ({'type': 'PGD', 'eps': '4/255'}, 'mine-4', ('linf', 4 / 255, 'both')),
        ({'type': 'PGD', 'eps': {'ir': 4 / 255, 'vis': 4 / 255}}, 'mine-4', ('linf', 4 / 255, 'both')),
        ({'type': 'PGD', 'eps': {'vis': 4 / 255}}, 'mine-4-vis', ('linf', 4 / 255, 'vis')),
        ({'type': 'PGD', 'eps': {'ir': 1 / 255, 'vis': 3 / 255}}, 'mine-4-ir25+vis75', ('linf', 4 / 255, 'ir25+vis75')),
        ({'type': 'PGD', 'eps': {'ir': 0.1 / 255, 'vis': 3 / 255}}, 'mine-custom', None),
        ({'type': 'PGD', 'eps': {'ir': 2.0}, 'norm': 'l2'}, 'mine-l2_2-ir', ('l2', 2.0, 'ir')),
        ({'type': 'NFGSM', 'eps': 2 / 255}, 'mine-6', ('linf', 6 / 255, 'both')),
        ({'type': 'Corruption', 'name': 'fog'}, 'mine', None),
    ],
)
def test_the_ball_of_a_config_is_what_its_attack_says(attack, key, group):
    case = config_case('mine', attack)
    assert case.key == key
    assert (case.group is None) == (group is None)
    if group:
        assert case.group == (group[0], pytest.approx(group[1]), group[2])


def compared(tmp_path, **steps) -> tuple[dict, dict]:
    """Reports and records of models by Auto-PGD's steps; every image under each attack is worth what chance says."""
    reports, records = {}, {}
    for i, (name, count) in enumerate(steps.items()):
        cases = make_suite('strong', 'mIoU', (4 / 255,), steps=count)
        reports[name] = reported(tmp_path / name, cases, at_random(i))
        records[name] = read_records(tmp_path / name)
    return reports, records


def test_differences_are_those_of_the_figures_worst_cases_included(tmp_path):
    reports, records = compared(tmp_path, first=10, second=10)
    figures, gaps, _ = compare(reports, records)
    assert [row[0] for row in gaps.rows] == [row[0] for row in figures.rows]
    for row, key in zip(
        gaps.rows, ['clean', 'pgd5-4', 'apgd_js-4', 'apgd_mce-4', 'apgd_bmce-4', 'worst case-4'], strict=True
    ):
        values = [
            next(row for row in report['rows'] if row['key'] == key)['figures']['all']['mIoU']['value']
            for report in reports.values()
        ]
        assert row[1].startswith(f'{values[1] - values[0]:.1f} [')


def test_unequal_steps_make_worst_cases_incomparable_too(tmp_path):
    reports, records = compared(tmp_path, first=10, second=20)
    figures, gaps, _ = compare(reports, records)
    unequal = ['apgd_js at 4/255', 'apgd_mce at 4/255', 'apgd_bmce at 4/255', 'worst case at 4/255']
    assert f'nothing can be compared: {", ".join(unequal)}.' in figures.text
    assert [row[0] for row in gaps.rows] == ['clean', 'pgd5 at 4/255']


def test_scenes_of_another_order_and_other_files_are_paired(tmp_path):
    cases = make_suite('paper', 'mIoU', (4 / 255,))
    right = dict(zip([name[:5] for name in IMAGES], (10, 25, 40, 55), strict=True))

    def record(case, image):
        return (right[image[:5]], 0, 60 - right[image[:5]]), (40, 60 - right[image[:5]], 0)

    other = [f'{name[:5]}.jpg' for name in reversed(IMAGES)]
    facts = {
        **FACTS,
        'model': {**FACTS['model'], 'pairs': False},
        'data': {**FACTS['data'], 'scenes': [n[:5] for n in other]},
    }
    reports = {
        'pairs': reported(tmp_path / 'pairs', cases, record),
        'visible': reported(tmp_path / 'visible', cases, record, facts=facts, images=other),
    }
    figures, gaps, _ = compare(reports, {name: read_records(tmp_path / name) for name in reports})
    assert [row[1] for row in gaps.rows] == ['0.0 [0.0, 0.0]'] * 2, 'paired by scene, in every resample'
    assert 'Of one sensor alone' in figures.text
    reports['visible']['data']['scenes'][0] = 'elsewhere'
    with pytest.raises(ValueError, match="visible and pairs can't be compared: they were tested on other images"):
        compare(reports, {})


def test_models_whose_records_are_cut_off_have_no_differences(tmp_path):
    """One record is missing of one model: the others are compared, in one line says which is not."""
    reports, records = compared(tmp_path, first=10, second=10, third=10)
    assert [row[1:] for row in compare(reports, records)[1].rows][0][1].endswith(']')
    cut = {key: dict(found) for key, found in records['second'].items()}
    del cut['apgd_js-4'][IMAGES[2]]
    for lost in (cut, {key: found for key, found in cut.items() if key != 'clean'}, {}):
        _, gaps, _ = compare(reports, {**records, 'second': lost})
        assert gaps.head == ['attack', 'third']
        assert 'Not known are those of second: the records*.jsonl beside the report lack what they need.' in gaps.text
        whole = compare({name: reports[name] for name in ('first', 'third')}, records)[1]
        assert gaps.rows == whole.rows
    _, gaps, _ = compare(reports, {**records, 'first': cut})
    assert (gaps.rows, gaps.text.split(':')[0]) == ([], 'Not known are those of first')


def test_what_any_report_takes_for_neighbours_is_drawn_together(tmp_path):
    """The second report names blocks, the first one runs of single images; then runs that are longer than any name."""
    reports, records = compared(tmp_path, first=10, second=10)
    reports['second']['bootstrap'] = {**reports['second']['bootstrap'], 'length': None, 'key': r'(.)\.png'}
    first, second = (compare(dict(pairs), records)[1] for pairs in (reports.items(), reversed(reports.items())))
    for gaps in (first, second):
        assert "bootstrap resamples of 2 blocks of images that '(.)\\\\.png' names alike" in gaps.text
    reports['first']['bootstrap'] = {**reports['first']['bootstrap'], 'length': 3}
    assert 'bootstrap resamples of runs of 3 images' in compare(reports, records)[1].text


def test_named_blocks_are_found_in_their_own_reports_ids(tmp_path):
    """Of other file names, in another order; D and N are its last letters."""
    cases = make_suite('paper', 'mIoU', (4 / 255,))
    other = [f'{name[:6]}_rgb.jpg' for name in reversed(IMAGES)]
    facts = {
        **FACTS,
        'data': {**FACTS['data'], 'scenes': [name[:5] for name in other]},
        'bootstrap': {**FACTS['bootstrap'], 'length': None, 'key': r'(.)_rgb'},
    }
    reports = {
        'a': reported(tmp_path / 'a', cases, at_random(0)),
        'b': reported(tmp_path / 'b', cases, at_random(1), facts=facts, images=other),
    }
    blocks = module._blocks(reports)
    assert blocks.names == ['D', 'N', 'D', 'N']
