"""Tables of made-up results with known means, spreads and orders."""

import csv
import io
import math

import pytest
from test_study.studies import make_plan, make_row, measured

from paif_mm.files import write_json
from paif_mm.study.schedule import note, note_error
from paif_mm.study.table import EVERY, SIGNS, collect, csv_of, markdown, mean_and_spread, orders, shown_tests

PAPER = {'clean': 50.0, 'pgd5-4': 30.0}


def results(plan):
    return {row.name: collect(row) for row in plan.rows}


@pytest.fixture
def plan(tmp_path):
    """A and B with two seeds each: B is better clean, A is attacked, and the worst cases are within the spread."""
    a = make_row(tmp_path, 'A', (0, 1), paper={'clean': 50.0, 'pgd5-4': 30.0})
    b = make_row(tmp_path, 'B', (0, 1), paper={'clean': 52.5, 'pgd5-4': 20.0})
    scores = {  # clean on all images, clean, attacked, worst case, car
        a.jobs[0]: (41.0, 40.0, 20.0, 12.0, 60.0),
        a.jobs[1]: (43.0, 44.0, 22.0, 10.0, 62.0),
        b.jobs[0]: (50.0, 50.0, 10.0, 9.0, 10.0),
        b.jobs[1]: (50.5, 51.0, 11.0, 11.0, 10.0),
    }
    for job, (every, clean, attacked, worst, car) in scores.items():
        tested = {'aAcc': 1.0, 'mIoU': every, 'mIoU_paper': 2.0, 'IoU/car': car + 5, 'IoU/person': float('nan')}
        report = {
            'clean': {'mIoU': clean, 'IoU/car': car, 'IoU/person': 7.0},
            'pgd5-4': {'mIoU': attacked, 'IoU/car': car - 5, 'IoU/person': None},
            'apgd_js-4': {'mIoU': worst + 1},
            'worst case-4': {'mIoU': worst},
        }
        measured(job, tested, report)
    return make_plan(a, b, classes=('car', 'person'), text='What it is about.')


def test_mean_and_sample_standard_deviation_over_seeds(plan):
    found = results(plan)['A']
    assert mean_and_spread(found, 'clean') == (42.0, pytest.approx(math.sqrt(8)), 2)
    assert mean_and_spread(found, EVERY) == (42.0, pytest.approx(math.sqrt(2)), 2)
    assert mean_and_spread(found[:1], 'pgd5-4') == (20.0, 0.0, 1)
    assert mean_and_spread(found, 'clean', 'IoU/car') == (61.0, pytest.approx(math.sqrt(2)), 2)
    assert mean_and_spread(found, 'pgd5-8') is None
    assert mean_and_spread(found, 'pgd5-4', 'IoU/person') is None, 'a class that occurs nowhere'


def test_a_result_knows_where_it_is_from(plan):
    first, second = collect(plan.rows[0])
    assert (first.seed, first.status, first.score, first.images) == (0, 'done', 'mIoU', 2)
    assert second.folder == str(plan.rows[0].jobs[1].folder)


def test_markdown_shows_means_spreads_and_the_papers_figures(plan):
    lines = markdown(plan).splitlines()
    assert lines[0] == '# A study'
    assert lines[2] == 'What it is about.'
    assert lines[4].startswith('mIoU (over the classes that occur; mIoU_paper, ')
    assert ' in percent, mean ± standard deviation of 2 seeds. ' in lines[4]
    assert lines[4].endswith('the same 2 images.'), 'no mean over objects where there is no background'
    assert lines[6:10] == [
        '| row | clean, all | clean | PGD-5, 4/255 | worst case, 4/255 | paper: clean | paper: PGD-5, 4/255 |',
        '| --- | --- | --- | --- | --- | --- | --- |',
        '| A | 42.0 ± 1.4 | 42.0 ± 2.8 | 21.0 ± 1.4 | 11.0 ± 1.4 | 50 | 30 |',
        '| B | 50.2 ± 0.4 | 50.5 ± 0.7 | 10.5 ± 0.7 | 10.0 ± 1.4 | 52.5 | 20 |',
    ]
    assert 'Not in the means' not in markdown(plan)


def test_markdown_shows_the_scores_of_chosen_classes(plan):
    lines = markdown(plan).splitlines()
    place = lines.index('| car / person | clean, all | clean | PGD-5, 4/255 | worst case, 4/255 |')
    assert lines[place + 2 : place + 4] == [
        '| A | 66.0 ± 1.4 / - | 61.0 ± 1.4 / 7.0 ± 0.0 | 56.0 ± 1.4 / - | - / - |',
        '| B | 15.0 ± 0.0 / - | 10.0 ± 0.0 / 7.0 ± 0.0 | 5.0 ± 0.0 / - | - / - |',
    ]


def test_background_is_left_out_of_the_mean_over_objects(tmp_path):
    row = make_row(tmp_path, 'A', (0, 1))
    for job, (car, person) in zip(row.jobs, ((30.0, 10.0), (20.0, None)), strict=True):
        tested = {'mIoU': 40.0, 'IoU/unlabeled': 90.0, 'IoU/car': 6.0, 'IoU/person': 8.0}
        report = {'mIoU': 9.0, 'IoU/unlabeled': 80.0, 'IoU/car': car, 'IoU/person': person}
        measured(job, tested, {'clean': report, 'pgd5-4': {'mIoU': 5.0, 'IoU/unlabeled': 40.0, 'IoU/car': None}})
    plan = make_plan(row, classes=('car',))
    lines = markdown(plan).splitlines()
    assert lines[2].endswith("'objects' is the mean IoU of all classes but the background.")
    place = lines.index('| objects / car | clean, all | clean | PGD-5, 4/255 |')
    assert lines[place + 2] == '| A | 7.0 ± 0.0 / 6.0 ± 0.0 | 20.0 ± 0.0 / 25.0 ± 7.1 | - / - |'
    assert 'mIoU_objects' in csv_of(plan)
    assert '| objects | clean, all |' in markdown(make_plan(row)), 'also of a plan that chooses no classes'


def test_orders_are_held_against_the_papers_within_the_spread(plan):
    assert orders(plan, results(plan)) == [
        'clean, paper: B > A; clean here: B > A',
        'PGD-5, 4/255, paper: A > B; PGD-5, 4/255 here: A > B; worst case, 4/255 here: A = B',
    ]
    assert markdown(plan).splitlines()[-4:] == [*(f'- {line}' for line in orders(plan, results(plan))), '', SIGNS]


def test_orders_are_within_groups(tmp_path):
    rows = [make_row(tmp_path, name, group=name[0], paper={'clean': float(name[1])}) for name in ('x1', 'x2', 'y3')]
    for row, score in zip(rows, (20.0, 10.0, 15.0), strict=True):
        measured(row.jobs[0], {'mIoU': 1.0}, {'clean': score})
    plan = make_plan(*rows)
    assert orders(plan, results(plan)) == ['x, clean, paper: x2 > x1; clean here: x1 > x2'], 'none of a single row'


def test_equal_scores_are_equal(tmp_path):
    rows = [make_row(tmp_path, name, paper={'clean': paper}) for name, paper in (('A', 2.0), ('B', 1.0))]
    for row in rows:
        measured(row.jobs[0], {'mIoU': 1.0}, {'clean': 33.0})
    plan = make_plan(*rows)
    assert orders(plan, results(plan)) == ['clean, paper: A > B; clean here: A = B']


def test_orders_without_a_worst_case_are_those_under_the_attack(tmp_path):
    """The suite ``paper`` has one attack per radius, of which there is no worst one."""
    rows = [make_row(tmp_path, name, paper={'pgd5-4': paper}) for name, paper in (('A', 2.0), ('B', 1.0))]
    for row, score in zip(rows, (10.0, 20.0), strict=True):
        measured(row.jobs[0], {'mIoU': 1.0}, {'clean': 33.0, 'pgd5-4': score})
    plan = make_plan(*rows)
    assert orders(plan, results(plan)) == ['PGD-5, 4/255, paper: A > B; PGD-5, 4/255 here: B > A']


def test_one_seed_has_no_spread(tmp_path):
    row = make_row(tmp_path, 'A')
    measured(row.jobs[0], {'mIoU': 40.26}, {'clean': 41.0, 'pgd5-4': 12.34})
    text = markdown(make_plan(row))
    assert '| A | 40.3 | 41.0 | 12.3 |\n' in text
    assert '±' not in text


def test_the_csv_has_every_figure_of_every_seed(plan):
    lines = list(csv.DictReader(io.StringIO(csv_of(plan))))
    assert [(line['row'], line['seed'], line['status']) for line in lines] == [
        ('A', '0', 'done'),
        ('A', '1', 'done'),
        ('B', '0', 'done'),
        ('B', '1', 'done'),
    ]
    assert lines[1]['folder'] == str(plan.rows[0].jobs[1].folder)
    figures = {key: value for key, value in lines[1].items() if ': ' in key}
    assert figures == {
        'clean, all: aAcc': '1.0000',
        'clean, all: mIoU': '43.0000',
        'clean, all: mIoU_paper': '2.0000',
        'clean, all: IoU/car': '67.0000',
        'clean, all: IoU/person': 'nan',
        'clean: mIoU': '44.0000',
        'clean: IoU/car': '62.0000',
        'clean: IoU/person': '7.0000',
        'clean: fused/SSIM': '0.2500',
        'pgd5-4: mIoU': '22.0000',
        'pgd5-4: IoU/car': '57.0000',
        'pgd5-4: IoU/person': 'nan',
        'apgd_js-4: mIoU': '11.0000',
        'worst case-4: mIoU': '10.0000',
    }


def test_failed_and_missing_rows_are_in_the_table(tmp_path):
    good, bad, absent = (
        make_row(tmp_path, 'good', (0, 1)),
        make_row(tmp_path, 'bad', (0,)),
        make_row(tmp_path, 'absent'),
    )
    measured(good.jobs[0], {'mIoU': 40.0}, {'clean': 41.0})
    note(bad.jobs[0], 'train', 1.0)
    note_error(bad.jobs[0], 'test ended with 1: no room')
    plan = make_plan(good, bad, absent)
    text = markdown(plan)
    assert '| good | 40.0 | 41.0 |\n| bad | - | - |\n\n' in text
    assert text.endswith(
        'Not in the means:\n\n- good, seed 1: not run\n- bad, seed 0: failed: test ended with 1: no room\n\n'
        'Not run: absent.\n'
    )
    lines = list(csv.DictReader(io.StringIO(csv_of(plan))))
    assert [line['status'] for line in lines] == ['done', 'not run', 'failed: test ended with 1: no room', 'not run']
    assert [line['clean: mIoU'] for line in lines] == ['41.0000', '', '', '']


def test_half_done_jobs_are_in_no_mean(tmp_path):
    row = make_row(tmp_path, 'A', (0, 1))
    for job in row.jobs:
        measured(job, {'mIoU': 40.0}, {'clean': 40.0 + job.seed})
    write_json(row.jobs[1].folder / 'state.json', {'seconds': {row.jobs[1].output('robustness').name: 1.0}})
    assert [result.status for result in collect(row)] == ['done', 'unfinished: train, test left']
    assert mean_and_spread(collect(row), 'clean') == (40.0, 0.0, 1)


def test_a_study_without_results_says_so(tmp_path):
    plan = make_plan(make_row(tmp_path, 'A', paper=PAPER))
    assert shown_tests(results(plan)) == []
    assert markdown(plan) == '# A study\n\nNot run: A.\n'
    assert csv_of(plan).splitlines()[0] == 'row,group,seed,status,folder'


def test_the_last_clean_test_counts(tmp_path):
    job = make_row(tmp_path, 'A').jobs[0]
    measured(job, {'mIoU': 40.0}, {'clean': 41.0})
    (folder,) = job.output('test').iterdir()
    folder.rename(folder.with_name('20200101_000000'))
    measured(job, {'mIoU': 42.0}, {'clean': 41.0})
    assert mean_and_spread(collect(make_row(tmp_path, 'A')), EVERY)[0] == 42.0


def test_detectors_have_ap50_in_percent(tmp_path):
    row = make_row(tmp_path, 'A', (0, 1))
    report = {'clean': {'AP50': 30.0, 'mAP': 10.0, 'AP50/car': 35.0}, 'pgd5-1': {'AP50': 20.0, 'AP50/car': 5.0}}
    measured(
        row.jobs[1], {'coco/bbox_mAP': 0.111, 'coco/bbox_mAP_50': 0.333, 'coco/car_precision': 0.2}, report, 'AP50'
    )
    plan = make_plan(row, classes=['car'])
    found = collect(row)
    assert mean_and_spread(found, EVERY)[0] == pytest.approx(33.3)
    assert mean_and_spread(found, EVERY, 'mAP')[0] == pytest.approx(11.1)
    text = markdown(plan)
    assert 'AP50 in percent.' in text
    assert '| A | 33.3 | 30.0 | 20.0 |\n' in text
    assert '| A | - | 35.0 | 5.0 |\n' in text, 'though the first seed is missing'
