"""Configs printed whole, and compared between two trees."""

import pytest
from conftest import REPO
from mmengine.config import Config
from test_tools.test_flags import type_other
from test_tools.test_robustness import call

CONFIG = REPO / 'configs/quickstart/segformer_sat_synthetic.py'


def test_a_config_is_printed_whole(monkeypatch, tmp_path, capsys):
    call(monkeypatch, 'print_config', CONFIG)
    (tmp_path / 'printed.py').write_text(capsys.readouterr().out)
    assert Config.fromfile(tmp_path / 'printed.py').to_dict() == Config.fromfile(CONFIG).to_dict()


def test_overrides_are_printed_and_written(monkeypatch, tmp_path):
    out = type_other('print', monkeypatch, tmp_path, config=CONFIG)
    expected = Config.fromfile(CONFIG)
    expected.train_cfg.max_iters = 7
    assert Config.fromfile(out / 'whole.py').to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    ('args', 'message'),
    [(['nowhere.py'], 'config nowhere.py does not exist'), ([CONFIG, '--out', 'a.txt'], r'--out a.txt: .* \.json')],
)
def test_what_cannot_be_printed_is_said_in_a_line(monkeypatch, args, message):
    with pytest.raises(SystemExit, match=message):
        call(monkeypatch, 'print_config', *args)


def trees(tmp_path, new: str, old: str = "model = dict(size=(2, 3))\nscale = 1\ndefault_scope = 'mmseg'\n") -> dict:
    """An old and a new tree with a base and a config each; the new config has another name."""
    for tree, text in (('old', old), ('new', new)):
        (tmp_path / tree / '_base_').mkdir(parents=True)
        (tmp_path / tree / '_base_' / 'runtime.py').write_text('resume = False\n')
        (tmp_path / tree / f'{tree}er.py').write_text("_base_ = './_base_/runtime.py'\n" + text)
    (tmp_path / 'renamed.txt').write_text('older.py newer.py\n')
    return {'old': tmp_path / 'old', 'new': tmp_path / 'new', 'renamed': tmp_path / 'renamed.txt'}


def test_equal_configs_are_the_same_whatever_their_variables_and_own_scope(monkeypatch, tmp_path, capsys):
    new = "size = (2, 3)\nmodel = dict(_scope_='mmseg', size=size)\ndefault_scope = 'mmseg'\n"
    with pytest.raises(SystemExit) as end:
        type_other('compare configs', monkeypatch, tmp_path / 'out', **trees(tmp_path, new))
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines() == [
        'variable scale differs, comes or goes in 1 configs',
        'variable size differs, comes or goes in 1 configs',
        '1 of 1 configs are the same in all that is read',
    ]


@pytest.mark.parametrize(
    ('new', 'difference'),
    [
        ('model = dict(size=(2, 4))', 'model.size.1: 3 -> 4'),
        ('model = dict(size=[2, 3])', 'model.size: (2, 3) -> [2, 3]'),
        ('model = dict(size=(2, 3.0))', 'model.size.1: 3 -> 3.0'),
        ('model = dict(size=(2, 3), _scope_="mmdet")', "model._scope_: '(missing)' -> 'mmdet'"),
        ('model = dict(size=(2, 3))\nload_from = "x"', "load_from: '(missing)' -> 'x'"),
    ],
)
def test_what_differs_is_named(monkeypatch, tmp_path, capsys, new, difference):
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, 'compare_configs', *compared(tmp_path, new + "\nscale = 1\ndefault_scope = 'mmseg'\n"))
    assert end.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        difference,
        '    in newer.py',
        '0 of 1 configs are the same in all that is read',
    ]


def compared(tmp_path, new: str) -> list:
    places = trees(tmp_path, new)
    return [places['old'], places['new'], '--renamed', places['renamed']]


def test_a_config_that_is_gone_is_a_difference(monkeypatch, tmp_path, capsys):
    places = trees(tmp_path, 'model = dict()')
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, 'compare_configs', places['old'], places['new'])
    assert end.value.code == 1
    assert {'older.py is gone', 'newer.py is new'} < set(capsys.readouterr().out.splitlines())
