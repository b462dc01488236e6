"""Leaderboards: order, upper limits, costs, and the refusal of what can't stand in one table."""

import copy
import re
from itertools import permutations

import pytest
from mmengine.config import Config
from test_robustness.test_report import FACTS, IMAGES, reported

from paif_mm.robustness.cases import adapted_case, config_case, corruption_cases, make_suite
from paif_mm.robustness.comparison import compare
from paif_mm.robustness.costs import training_passes
from paif_mm.robustness.leaderboard import draw, leaderboard, ranking
from paif_mm.robustness.pages import page
from paif_mm.robustness.sections import sections

SETTINGS = {'suite': 'strong', 'modality': ['both'], 'eps': ['4/255'], 'steps': 100, 'queries': 1000, 'seed': 0}
COSTS = {'parameters': 3_700_000, 'flops': 12_340_000_000, 'training_passes': None}


def report_of(folder, left: int, clean: int = 60, cases=None, images=IMAGES, **facts):
    """A report of a model that is right on ``clean`` of 60 pixels of a class, and on ``left`` under any attack."""
    cases = cases or make_suite('strong', 'mIoU', (4 / 255,))

    def record(case, image):
        right = clean if case.eps is None else left
        return (right, 0, 60 - right), (40, 60 - right, 0)

    facts = {**FACTS, 'settings': SETTINGS, 'costs': COSTS, **facts}
    return reported(folder, cases, record, facts=facts, images=images)


@pytest.fixture
def reports(tmp_path):
    made = {name: report_of(tmp_path / name, left) for name, left in (('weak', 10), ('strong', 50), ('middle', 30))}
    return {name: checked(report) for name, report in made.items()}


def checked(report):
    return {**report, 'masking': {'verdict': 'passed', 'findings': []}}


def test_most_left_comes_first(reports):
    section, *_, notes = leaderboard(reports)
    assert [row[:2] for row in section.rows] == [['1', 'strong'], ['2', 'middle'], ['3', 'weak']]
    assert section.head == [
        *('rank', 'model', 'worst case, 4/255', 'PGD-5, 4/255', 'clean', 'masking'),
        *('parameters, M', 'GFLOPs', 'training passes, M'),
    ]
    for row in section.rows:
        worst = next(r for r in reports[row[1]]['rows'] if r['key'] == 'worst case-4')['figures']['all']['mIoU']
        assert row[2] == f'{worst["value"]:.1f} [{worst["low"]:.1f}, {worst["high"]:.1f}]'
        assert row[-3:] == ['3.7', '12.3', '-']
    assert section.text.startswith('The model that keeps most in the worst case at 4/255 comes first.')
    assert "Calling every pixel 'wall' has 30.0" in notes.text
    assert 'upper limits' not in notes.text
    assert 'not checked' not in notes.text


def test_a_model_that_hides_its_gradients_comes_last_and_its_figure_is_a_limit(reports):
    reports['strong']['masking'] = {'verdict': 'failed', 'findings': []}
    section, *_, notes = leaderboard(reports)
    assert [row[1] for row in section.rows] == ['middle', 'weak', 'strong']
    assert section.rows[2][2].startswith('≤ ')
    assert section.rows[2][5] == 'failed'
    assert not section.rows[0][2].startswith('≤')
    assert 'Of strong a check for gradient masking failed: the figures are upper limits (≤)' in notes.text


def test_a_model_that_nobody_checked_comes_after_those_that_were(reports):
    """Else the way to the top would be --diagnostics 0."""
    reports['strong']['masking'] = {'verdict': 'not run', 'findings': []}
    section, *_, notes = leaderboard(reports)
    assert [row[1] for row in section.rows] == ['middle', 'weak', 'strong']
    assert [row[5] for row in section.rows] == ['passed', 'passed', 'not checked']
    assert [cell.startswith('≤ ') for cell in section.rows[2][2:4]] == [True, True]
    assert 'strong: not checked for gradient masking (--diagnostics 0)' in notes.text


def test_the_papers_suite_is_ranked_by_what_it_is_called(tmp_path):
    cases = make_suite('paper', 'mIoU', (4 / 255,))
    reports = {name: checked(report_of(tmp_path / name, left, cases=cases)) for name, left in (('a', 10), ('b', 30))}
    section, *_ = leaderboard(reports)
    assert section.head[2:5] == ['PGD-5, 4/255', 'clean', 'masking']
    assert [row[1] for row in section.rows] == ['b', 'a']
    assert 'most under PGD-5 at 4/255 comes first' in section.text
    assert 'worst' not in section.text


@pytest.mark.parametrize('count', [1, 2])
def test_a_further_attacks_radius_is_no_ground_for_an_order(tmp_path, count):
    """One or two attacks at 1/255 alone, under which the models change places."""
    more = [config_case(f'mine{i}', {'type': 'PGD', 'eps': 1 / 255}) for i in range(count)]
    cases = [*make_suite('strong', 'mIoU', (4 / 255,)), *more]
    reports = {}
    for name, large, small in (('a', 10, 59), ('b', 30, 40)):

        def record(case, image, large=large, small=small):
            right = 60 if case.eps is None else small if case.eps < 2 / 255 else large
            return (right, 0, 60 - right), (40, 60 - right, 0)

        facts = {**FACTS, 'settings': SETTINGS, 'costs': COSTS}
        reports[name] = checked(reported(tmp_path / name, cases, record, facts=facts))
    section, *_ = leaderboard(reports)
    assert [row[1] for row in section.rows] == ['b', 'a']
    assert section.head[2:5] == ['worst case, 4/255', 'PGD-5, 4/255', 'clean']
    assert '>4/255<' in draw(reports)
    assert '>1/255<' not in draw(reports)


def test_equal_worst_cases_are_ordered_by_clean_figures(tmp_path):
    reports = {name: report_of(tmp_path / name, 10, clean) for name, clean in (('a', 40), ('b', 60))}
    assert ranking(reports) == ['b', 'a']


def test_reports_of_trouble_are_ordered_by_their_mean_error(tmp_path):
    cases = [make_suite('paper', 'mIoU', ())[0], *corruption_cases(['fog', 'shift', 'missing_visible'])]
    reports = {}
    for name, loss in (('a', 3), ('b', 1)):

        def record(case, image, loss=loss):
            right = 60 - loss * (case.attack or {}).get('severity', 0)
            return (right, 0, 60 - right), (40, 60 - right, 0)

        facts = {**FACTS, 'settings': {**SETTINGS, 'suite': 'trouble'}, 'costs': COSTS}
        reports[name] = reported(tmp_path / name, cases, record, facts=facts)
    section, *_, notes = leaderboard(reports)
    assert [row[1] for row in section.rows] == ['b', 'a']
    # right 60 - s of 60, 40 of 40 + s: the mean of both IoUs over s = 1..5
    errors = [100 - 50 * ((60 - s) / 60 + 40 / (40 + s)) for s in range(1, 6)]
    assert float(section.rows[0][section.head.index('mean corruption error')].split()[0]) == pytest.approx(
        sum(errors) / 5, abs=0.06
    )
    assert draw(reports) == ''
    table = next(part for part in compare(reports, {}) if part.title == 'Mean corruption error')
    assert [row[0] for row in table.rows] == ['fog', 'shift', 'mCE, a = 100']
    ratio = sum(errors) / sum(100 - 50 * ((60 - 3 * s) / 60 + 40 / (40 + 3 * s)) for s in range(1, 6))
    assert [float(cell) for cell in table.rows[-1][1:]] == pytest.approx([100, 100 * ratio], abs=0.06)


def test_corruptions_of_further_attacks_are_no_part_of_the_mean(tmp_path):
    """The suite's fog, and one of severity 5 by another name."""
    again = config_case('thick', {'type': 'Corruption', 'name': 'fog', 'severity': 5})
    shift = [config_case(f'moved{s}', {'type': 'Corruption', 'name': 'shift', 'severity': s}) for s in (1, 2)]
    clean, fog = make_suite('paper', 'mIoU', ())[0], corruption_cases(['fog'])

    def record(case, image):
        right = {'thick': 0, 'moved1': 0, 'moved2': 0}.get(case.name, 60 - (case.attack or {}).get('severity', 0))
        return (right, 0, 60 - right), (40, 60 - right, 0)

    alone, more = (
        reported(tmp_path / str(len(cases)), cases, record) for cases in ([clean, *fog], [clean, *fog, again, *shift])
    )
    assert more['trouble'] == alone['trouble']
    before, table = (next(s for s in sections(report) if s.title == 'Real trouble') for report in (alone, more))
    lines = {row[0]: row for row in table.rows}
    fog_line = next(row for row in before.rows if row[0] == 'fog')
    assert [cell for cell in lines['fog'] if cell] == fog_line
    assert {'thick (--attack)', 'moved1 (--attack)', 'moved2 (--attack)'} < set(lines)


def test_mean_errors_are_of_the_corruptions_that_all_models_met(tmp_path):
    clean = make_suite('paper', 'mIoU', ())[0]

    def record(case, image):
        lost = {'fog': 2, 'shift': 6}.get((case.attack or {}).get('name'), 0) * (case.attack or {}).get('severity', 0)
        return (60 - lost, 0, lost), (40, lost, 0)

    reports = {}
    for name, corruptions in (('pairs', ['fog', 'shift']), ('visible', ['fog'])):
        model = {**FACTS['model'], 'fused': name == 'pairs', 'pairs': name == 'pairs'}
        facts = {**FACTS, 'settings': {**SETTINGS, 'suite': 'trouble'}, 'costs': COSTS, 'model': model}
        cases = [clean, *corruption_cases(corruptions)]
        reports[name] = reported(tmp_path / name, cases, record, facts=facts)
    table, *_, notes = leaderboard(reports)
    place = table.head.index('mean corruption error')
    assert len({row[place].split()[0] for row in table.rows}) == 1, 'both lose the same by fog'
    assert 'The mean corruption error is over what all models met: fog.' in notes.text


CHANGES = {
    'steps': (lambda r: r['settings'].update(steps=300), r'second and first differ in --steps \(300 and 100\)'),
    'eps': (lambda r: r['settings'].update(eps=['8/255']), r'differ in --eps \(8/255 and 4/255\)'),
    'seed': (lambda r: r['settings'].update(seed=1), r'differ in --seed \(1 and 0\)'),
    'suite': (lambda r: r['settings'].update(suite='full'), r'differ in --suite \(full and strong\)'),
    'images': (lambda r: r['data'].update(scenes=['other', *r['data']['scenes'][1:]]), 'differ in images'),
    'files': (lambda r: r['data'].update(hash='other'), 'differ in images .*not the same files'),
    'classes': (lambda r: r.update(classes=['wall', 'car']), r'differ in classes \(wall car and wall person\)'),
    'score': (lambda r: r.update(score='AP50'), r'differ in score \(AP50 and mIoU\)'),
    'attack': (lambda r: r['rows'][2]['attack'].update(steps=7), r'differ in attacks \(apgd_js-4\)'),
    'one more': (
        lambda r: r['rows'].append({**r['rows'][1], 'key': 'mine-4', 'name': 'mine'}),
        r'differ in attacks \(mine-4\)',
    ),
}


@pytest.mark.parametrize('change', CHANGES)
def test_unequal_reports_are_refused_by_name_and_setting(tmp_path, change):
    first, second = (report_of(tmp_path / name, 20) for name in ('first', 'second'))
    second = copy.deepcopy(second)
    edit, message = CHANGES[change]
    edit(second)
    with pytest.raises(ValueError, match=message) as error:
        leaderboard({'first': first, 'second': second})
    assert '\n' not in str(error.value)


def test_what_is_given_beside_the_suite_is_the_same_for_all_kinds_of_models(tmp_path):
    """In any order: a plain model is no bridge between unequal ones, and has no free attacks less or more."""
    suite, plain = make_suite('strong', 'mIoU', (4 / 255,)), {**FACTS['model'], 'fused': False, 'pairs': False}
    more = [*suite, config_case('mine', {'type': 'PGD', 'eps': 4 / 255})]
    made = {
        'more': report_of(tmp_path / 'more', 20, cases=more),
        'fused': report_of(tmp_path / 'fused', 20, cases=suite),
        'plain': report_of(tmp_path / 'plain', 20, cases=suite, model=plain),
    }
    for names in (*permutations(made), *permutations(('more', 'plain'))):
        with pytest.raises(ValueError, match=r'differ in attacks \(mine-4(, worst case-4)?\)'):
            leaderboard({name: made[name] for name in names})
    leaderboard({name: made[name] for name in ('fused', 'plain')})


def test_attacks_that_know_a_defence_stand_beside_those_on_bare_models(tmp_path):
    cases = make_suite('strong', 'mIoU', (4 / 255,))
    known = [adapted_case(case, {'bpda': {'backbone.quantiser': 'identity'}}) for case in cases]
    reports = {name: report_of(tmp_path / name, 20, cases=each) for name, each in (('bare', cases), ('wall', known))}
    told = 'Modules that the attacks differentiated as others (BPDA), of wall: backbone.quantiser.'
    assert told in leaderboard(reports)[-1].text
    figures = compare(reports, {})[0]
    assert told in figures.text and 'Not the same attacks' not in figures.text
    samples = [adapted_case(case, {'eot_samples': 4}) for case in cases]
    with pytest.raises(ValueError, match='differ in attacks'):
        leaderboard({**reports, 'drawn': report_of(tmp_path / 'drawn', 20, cases=samples)})


def test_a_model_without_fusion_lacks_the_attack_on_it_and_may_stand_beside_others(tmp_path):
    cases = [case for case in make_suite('full', 'mIoU', (4 / 255,), steps=3) if case.kind != 'corruption']
    alone = make_suite('full', 'mIoU', (4 / 255,), steps=3, fused=False, pairs=False)
    alone = [case for case in alone if case.kind != 'corruption']
    plain = {**FACTS['model'], 'fused': False, 'pairs': False}
    reports = {
        'fused': report_of(tmp_path / 'fused', 20, cases=cases),
        'visible': report_of(tmp_path / 'visible', 30, cases=alone, model=plain),
    }
    section, *_, notes = leaderboard(reports)
    assert [row[1] for row in section.rows] == ['visible', 'fused']
    assert 'Of one sensor alone, so that all of it is attacked: visible.' in notes.text


def test_the_page_sorts_by_itself_and_shows_every_model(reports):
    text = page('Board', leaderboard(reports), {'picture': draw(reports)})
    assert text.count('<table class="sortable">') == text.count('<script>') == text.count('<svg') == 1
    assert not re.search(r'(src|href)="(?!data:|#)', text), 'the page needs nothing beside it'
    picture = text[text.index('<svg') : text.index('</svg>')]
    assert all(f'>{name}<' in picture for name in reports)


def test_one_report_is_no_leaderboard(reports):
    with pytest.raises(ValueError, match='needs at least two reports'):
        leaderboard({'weak': reports['weak']})


LOOP = {'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 100}, 'train_dataloader': {'batch_size': 4}}
PGD5 = {'type': 'PGD', 'eps': 8 / 255, 'steps': 5}
HOOK = {'type': 'paif_mm.AdversarialAttackHook', 'attack': PGD5}


@pytest.mark.parametrize(
    ('hooks', 'passes'),
    [
        ([], 400),
        ([HOOK], 400 * 3.5),
        ([{**HOOK, 'ratio': 1.0, 'begin': 50}], 400 * 3.5),
        ([{**HOOK, 'attack': {'type': 'NFGSM', 'eps': 8 / 255}}], 400 * 1.5),
        ([{**HOOK, 'trades': 6.0}], 400 * 4),
        ([{**HOOK, 'attack': {**PGD5, 'restarts': 2, 'eot_samples': 3}}], 400 * (1 + 0.5 * 30)),
        ([{**HOOK, 'attack': {'type': 'paif_mm.APGD', 'eps': 8 / 255, 'steps': 10}}], 400 * 6),
        ([{**HOOK, 'attack': {'type': 'Square', 'eps': 8 / 255}}], None),
        ([{**HOOK, 'attack': {'type': 'WeakestModality', 'eps': 8 / 255}}], None),
        ([{**HOOK, 'attack': {'type': 'BankAttack', 'bank': 'nowhere', 'level': 'x'}}], None),
        ([{**HOOK, 'attack': {'type': 'BankAttack', 'bank': 'nowhere', 'level': 'x'}, 'phases': 'test'}], 400),
        ([{**HOOK, 'phases': ('test',)}], 400),
        ([{'type': 'paif_mm.FreeAdversarialHook', 'eps': 8 / 255, 'replays': 4}], 1600),
        ([{**HOOK, 'align': 0.2}], None),
        ([{**HOOK, 'ramp': {'steps': 50}}], None),
        ([{'type': 'paif_mm.FusionLossHook'}], 400),
    ],
)
def test_passes_of_trainings_by_hand(hooks, passes):
    assert training_passes(Config({**LOOP, 'custom_hooks': hooks})) == passes


def test_trainings_that_do_not_tell_their_passes():
    assert training_passes(Config({})) is None
    assert training_passes(Config({**LOOP, 'train_cfg': {'by_epoch': True, 'max_epochs': 3}})) is None
    assert training_passes(Config({**LOOP, 'train_cfg': {'type': 'HDSTrainLoop', 'max_iters': 9}})) is None
