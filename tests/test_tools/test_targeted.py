"""Targeted attacks as users type them."""

import json

import pytest
from test_tools import commands
from test_tools.test_robustness import call, untrained


@pytest.fixture(scope='module')
def fused(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('fused')
    return untrained(commands.config_file(folder, synthetic_root, 'general'), folder)


def test_a_table_of_who_vanishes_is_written(fused, tmp_path, monkeypatch, capsys):
    pairs = ['person:unlabeled', 'car:person']
    flags = ['--steps', '2', '--limit', '2', '--eps', '4/255', '--seed', '1']
    flags += ['--cfg-options', 'test_dataloader.num_workers=0']
    call(monkeypatch, 'targeted', *fused, '--out', tmp_path, '--pairs', *pairs, *flags)
    found = json.loads((tmp_path / 'targeted.json').read_text())
    assert [(one['source'], one['target']) for one in found['pairs']] == [('person', 'unlabeled'), ('car', 'person')]
    assert found['settings']['steps'] == 2
    known = [one for one in found['pairs'] if one['pixels']]
    assert known
    assert all(0 <= one['success'] <= 100 and 0 < one['images'] <= 2 for one in known)
    assert 'person to unlabeled' in capsys.readouterr().out
    assert '<h2>Who can be made to vanish</h2>' in (tmp_path / 'targeted.html').read_text()
    assert '| person to unlabeled |' in (tmp_path / 'targeted.md').read_text()


def test_mistakes_end_in_one_line(fused, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="there is no class 'pedestrian'"):
        call(monkeypatch, 'targeted', *fused, '--out', tmp_path, '--pairs', 'pedestrian:car')


def test_the_test_tool_knows_the_classes_by_name(fused, tmp_path, monkeypatch):
    path = tmp_path / 'quick.py'
    path.write_text(
        "_base_ = '%s'\nattack = dict(steps=2)\n"
        % (commands.REPO / 'configs/_base_/attacks/person100_vanishes_eps4.py')
    )
    call(monkeypatch, 'test', *fused, '--attack', path, '--work-dir', tmp_path / 'w')
    audit = commands.latest_results(tmp_path / 'w')['quick']['audit']
    assert audit['images'] == 4
    assert audit['loss_after'] > audit['loss_before']
