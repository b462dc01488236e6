"""The command ``paif`` runs each tool as it is run by itself."""

import runpy
import shlex
import subprocess
import sys

import pytest
from conftest import REPO
from test_tools.commands import environment, run

from paif_mm.command import OWN, TOOLS, main


def paif(*args) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', '-m', 'paif_mm.command', *args]
    return subprocess.run(command, cwd=REPO, env=environment(), capture_output=True, text=True, check=False)


def test_a_tool_says_the_same_under_its_short_name():
    config = 'configs/quickstart/segformer_general_synthetic.py'
    assert paif('config', config).stdout == run('print_config.py', config).stdout != ''


def test_help_names_all_commands_and_unknown_ones_are_told():
    told = paif()
    assert told.returncode == 0
    assert all(f'\n  {name} ' in told.stdout for name in (*OWN, *TOOLS))
    wrong = paif('predcit')
    assert wrong.returncode == 2 and 'did you mean predict?' in wrong.stderr


def test_mistakes_end_with_one_line_and_a_code():
    wrong = paif('predict', 'paif_mm://nothing', '--visible', 'a', '--out', 'b')
    assert wrong.returncode == 1
    assert 'there is no model paif_mm://nothing' in wrong.stderr and 'Traceback' not in wrong.stderr


@pytest.mark.parametrize('name', TOOLS)
def test_every_short_name_is_that_of_a_tool_which_takes_its_example(name, monkeypatch):
    file, _, example = TOOLS[name]
    monkeypatch.syspath_prepend(str(REPO / 'tools'))
    monkeypatch.setattr(sys, 'argv', [file, *shlex.split(example)])
    tool = runpy.run_path(str(REPO / 'tools' / file))
    assert shlex.split(example)[0] in str(tool['parse_args']())


@pytest.mark.parametrize('name', [*OWN, *TOOLS])
def test_every_command_s_help_ends_with_an_example(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['paif', name, '--help'])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    told = capsys.readouterr().out.rstrip().splitlines()
    assert told[-1].startswith(f'  paif {name} ') and any(line.startswith('example') for line in told[-3:])
