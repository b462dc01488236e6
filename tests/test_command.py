"""The command ``paif`` runs each tool as it is run by itself."""

import subprocess
import sys

import pytest
from conftest import REPO
from test_tools.commands import environment, run

from paif_mm.command import OWN, TOOLS


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
def test_every_short_name_is_that_of_a_tool(name):
    assert (REPO / 'tools' / TOOLS[name][0]).is_file()
