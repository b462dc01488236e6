"""The tool that tests versions: its bookkeeping, and that nothing is claimed that it has not seen pass."""

import json
import re
import sys

import check_versions
import pytest
from check_versions import COMBINATIONS, FailedError
from conftest import REPO

PASSED = {
    'date': '2026-11-01',
    'minutes': 3.0,
    'versions': {'python': '3.11.7', **dict.fromkeys(check_versions.COLUMNS, '1.0')},
    'passed': 7,
    'failed': 0,
    'skipped': 1,
    'failures': {},
}


def test_counts_and_reasons_are_those_of_pytest(tmp_path, monkeypatch):
    file = tmp_path / 'test_some.py'
    file.write_text(
        'import pytest\n'
        'def test_good(): pass\n'
        '@pytest.mark.skip\n'
        'def test_left_out(): pass\n'
        'def test_bad(): assert 1 == 2, "not | <equal>"\n'
        '@pytest.fixture\n'
        'def broken(): raise OSError("no disk")\n'
        'def test_without_its_fixture(broken): pass\n'
    )
    monkeypatch.setattr(check_versions, 'REPO', tmp_path)
    monkeypatch.setattr(check_versions, 'TESTS', [str(file)])
    with open(tmp_path / 'x.log', 'w') as log:
        result = check_versions.tested(sys.executable, tmp_path / 'x.xml', log)
    assert {key: result[key] for key in ('passed', 'failed', 'skipped')} == {'passed': 1, 'failed': 2, 'skipped': 1}
    reasons = {name.rpartition('::')[2]: why for name, why in result['failures'].items()}
    assert reasons['test_bad'].startswith('AssertionError: not | <equal>')
    assert 'OSError: no disk' in reasons['test_without_its_fixture']
    page = check_versions.page('here', {'current': {**PASSED, **result}})
    assert 'test_some.py::test_bad`: AssertionError: not \\| &lt;equal>' in page


def test_tests_that_do_not_come_to_their_end_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(check_versions, 'REPO', tmp_path)
    monkeypatch.setattr(check_versions, 'TESTS', ['--no-such-flag'])
    with open(tmp_path / 'x.log', 'w') as log, pytest.raises(FailedError, match='pytest failed: .*'):
        check_versions.tested(sys.executable, tmp_path / 'x.xml', log)


def test_a_machine_without_the_interpreter_says_so(tmp_path):
    combination = COMBINATIONS['current']._replace(python='3.99')
    result = check_versions.tried(combination, tmp_path / 'env')
    assert result['error'] == 'this machine has no python3.99'
    page = check_versions.page('here', {'current': result})
    assert 'current (3.11, ' in page and '): this machine has no python3.99' in page
    assert not re.search(r'^\| current', page, re.MULTILINE)


def test_successors_are_named_and_two_of_a_kind_are_seen():
    listed = [('torch', '2.4.1'), ('onedl_mmcv', '2.3.6'), ('mmcv-lite', '2.1.0'), ('mmengine', '0.10.7')]
    columns = check_versions.versions([{'name': name, 'version': number} for name, number in listed])
    assert columns['mmcv'] == 'mmcv-lite 2.1.0, onedl-mmcv 2.3.6'
    assert (columns['torch'], columns['mmengine'], columns['mmdet']) == ('2.4.1', '0.10.7', '')


def test_a_stopped_call_keeps_its_rows_and_goes_on(tmp_path, monkeypatch):
    tried = []

    def try_one(combination, folder, keep):
        if stops_at == combination:
            raise KeyboardInterrupt
        tried.append(combination)
        return dict(PASSED)

    monkeypatch.setattr(check_versions, 'tried', try_one)
    args = ['--rows', 'oldest', 'current', '--out', str(tmp_path / 'v.md'), '--folder', str(tmp_path)]
    stops_at = COMBINATIONS['current']
    with pytest.raises(KeyboardInterrupt):
        check_versions.main(args)
    assert list(json.loads((tmp_path / 'v.json').read_text())['rows']) == ['oldest']
    assert '| oldest | 3.11.7 |' in (tmp_path / 'v.md').read_text()
    assert f'- current ({", ".join(COMBINATIONS["current"])}): not tried yet' in (tmp_path / 'v.md').read_text()
    stops_at = None
    check_versions.main(args)
    assert tried == [COMBINATIONS['oldest'], COMBINATIONS['current']]
    check_versions.main(args)
    assert len(tried) == 2
    check_versions.main([*args, '--again'])
    assert len(tried) == 4


def rows() -> list[dict]:
    known = json.loads((REPO / 'docs' / 'versions.json').read_text())['rows']
    return [row for row in known.values() if row.get('failed') == 0 and row['passed'] > 50]


def test_the_page_shows_what_the_json_holds():
    known = json.loads((REPO / 'docs' / 'versions.json').read_text())
    assert check_versions.page(**known) == (REPO / 'docs' / 'versions.md').read_text()


def test_nothing_is_claimed_that_has_not_passed():
    """Python versions of setup.py and README, the lowest torch, and the ends of the ranges of each stack."""
    pythons = {row['versions']['python'].rpartition('.')[0] for row in rows()}
    minors = re.search(r'for minor in \(([\d, ]+)\)', (REPO / 'setup.py').read_text())[1].split(', ')
    assert {f'3.{minor}' for minor in minors} <= pythons
    assert f'Python 3.{minors[0]} to 3.{minors[-1]}' in (REPO / 'README.md').read_text()
    lowest = re.search(r'^torch>=(.*)$', (REPO / 'requirements' / 'runtime.txt').read_text(), re.MULTILINE)[1]
    assert any(row['versions']['torch'].startswith(f'{lowest}.') for row in rows())
    assert f'torch {lowest} or later' in (REPO / 'README.md').read_text()
    for stack, mmcv in (
        ('openmmlab', 'mmcv-lite 2.1.0'),
        ('openmmlab', 'mmcv-lite 2.2.0'),
        ('onedl', 'onedl-mmcv 2.3.6'),
    ):
        assert any((row['asked']['stack'], row['versions']['mmcv']) == (stack, mmcv) for row in rows()), mmcv
    assert {row['versions']['numpy'].split('.')[0] for row in rows()} == {'1', '2'}
