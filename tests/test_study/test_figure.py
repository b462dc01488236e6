"""The picture of a study with known results."""

import pytest
from test_study.studies import make_plan, make_row, measured

from paif_mm.study.figure import draw


@pytest.fixture
def plan(tmp_path):
    rows = [
        make_row(tmp_path, 'General', (0, 1), paper={'clean': 56.5}),
        make_row(tmp_path, 'adversarial', group='second'),
        make_row(tmp_path, 'never run', group='second'),
    ]
    for job in (*rows[0].jobs, *rows[1].jobs):
        measured(job, {'mIoU': 41.0}, {'clean': 40.0 + job.seed, 'pgd5-4': 20.0, 'other-4': 3.0, 'worst case-4': 10.0})
    return make_plan(*rows)


def test_the_picture_names_rows_groups_and_attacks(plan, tmp_path):
    assert draw(plan, tmp_path / 'study.svg')
    text = (tmp_path / 'study.svg').read_text()
    assert text.rstrip().endswith('</svg>')
    for name in ('General', 'adversarial', 'second', 'A study', 'clean', 'PGD-5, 4/255', 'worst case, 4/255', 'paper'):
        assert name in text
    assert 'mIoU (%)' in text
    for name in ('never run', 'other'):
        assert name not in text


def test_the_picture_has_the_papers_figures_if_any(plan, tmp_path):
    assert draw(make_plan(plan.rows[1]), tmp_path / 'study.svg')
    assert 'paper' not in (tmp_path / 'study.svg').read_text()
    swapped = make_plan(plan.rows[1], plan.rows[0])
    assert draw(swapped, tmp_path / 'study.svg')
    assert 'paper' in (tmp_path / 'study.svg').read_text(), 'though the first group has none'


def test_the_same_results_make_the_same_file(plan, tmp_path):
    for name in ('first.svg', 'second.svg'):
        draw(plan, tmp_path / name)
    assert (tmp_path / 'first.svg').read_bytes() == (tmp_path / 'second.svg').read_bytes()


def test_other_formats_by_the_name(plan, tmp_path):
    assert draw(plan, tmp_path / 'study.png')
    assert (tmp_path / 'study.png').read_bytes().startswith(b'\x89PNG')


def test_without_results_nothing_is_drawn(tmp_path):
    assert not draw(make_plan(make_row(tmp_path, 'A', paper={'clean': 50.0})), tmp_path / 'study.svg')
    assert not (tmp_path / 'study.svg').exists()
