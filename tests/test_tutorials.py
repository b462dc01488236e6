"""The tutorials are run as they are written: files are saved, configs read, commands and programs run, in order."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import REPO, environment

TUTORIALS = sorted((REPO / 'docs' / 'tutorials').glob('*.md'))
NEEDS = {'export': ('onnx', 'onnxruntime', 'onnxscript')}
#: Reads every config of a folder, and builds the models of those that have one.
CHECK = """
from pathlib import Path
from mmengine.registry import MODELS, init_default_scope
from paif_mm.engine.launch import read_attack, read_config
from paif_mm.registry import ATTACKS, build
for name in %r:
    config = read_config(name)
    init_default_scope('mmseg')
    if 'attack' in config and 'model' not in config:
        print(name, type(build(ATTACKS, read_attack(name))).__name__)
    elif 'genotype.json' not in config.pretty_text:
        print(name, sum(p.numel() for p in MODELS.build(config.model).parameters()))
"""


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """Where a reader saves it."""
        found = re.match(r'# (\w+\.py)\n', self.text)
        return found and found[1]


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in re.findall(r'```(\w+)\n(.*?)```', page.read_text(), re.DOTALL)]


@pytest.fixture
def workplace(tmp_path) -> Path:
    """A folder to stand in, as that of the project, with ``python`` and ``paif`` on the path."""
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(REPO / name)
    (tmp_path / 'bin').mkdir()
    for name, what in (('python', ''), ('paif', '-m paif_mm.command')):
        path = tmp_path / 'bin' / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -W ignore {what} "$@"\n')
        path.chmod(0o755)
    return tmp_path


def run(block: Block, folder: Path) -> str:
    if block.file:
        (folder / block.file).write_text(block.text)
        return ''
    command = {'bash': ['bash', '-euo', 'pipefail', '-c'], 'python': ['python', '-c']}[block.language]
    env = environment()
    env['PATH'] = os.pathsep.join([str(folder / 'bin'), env['PATH']])
    done = subprocess.run([*command, block.text], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f'{block.text}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}'
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('page', TUTORIALS, ids=lambda page: page.stem)
def test_tutorials_run_as_they_are_written(page, workplace):
    for name in NEEDS.get(page.stem, ()):
        pytest.importorskip(name, reason=f'no {name}: pip install -r requirements/export.txt')
    told = ''.join(run(block, workplace) for block in blocks(page) if block.language != 'text')
    assert 'mIoU' in told or page.stem == 'export'
    results = RESULTS[page.stem]
    assert [name for name in results if not list(workplace.glob(name))] == []


RESULTS = {
    'adversarial_training': ['work_dirs/test_adaptive/*/results.json', 'work_dirs/adaptive/theta_prime.pth'],
    'attack': ['work_dirs/doubt/*/results.json', 'work_dirs/corners/*/results.json'],
    'export': ['model.onnx', 'model.pt', 'out/pred/*.png', 'fused.png'],
    'fusion_network': ['work_dirs/my_fusion_config/iter_20.pth', 'fused/val00000D.png'],
    'report': ['reports/plain/report.html', 'reports/both/*.html'],
    'search_space': ['work_dirs/my_search/architecture.png', 'work_dirs/my_retraining/iter_20.pth'],
    'several_processes': ['work_dirs/two/iter_10.pth', 'work_dirs/two_tested/*/results.json'],
    'two_streams': ['strips/pgd5_eps4/*.png', 'report/report.html'],
}


def test_every_config_of_the_tutorials_is_read_and_its_model_built(workplace):
    """All of them in one process, in the time of one."""
    names = []
    for page in TUTORIALS:
        for block in blocks(page):
            if block.file:
                assert not (workplace / block.file).exists(), f'two tutorials have a {block.file}'
                (workplace / block.file).write_text(block.text)
                names += [block.file] if re.search(r'^(_base_|attack) =', block.text, re.MULTILINE) else []
    shutil.rmtree(workplace / 'bin')
    env = environment(workplace)
    command = [sys.executable, '-W', 'ignore', '-c', CHECK % names]
    done = subprocess.run(command, cwd=workplace, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = dict(line.split() for line in done.stdout.splitlines())
    assert told['doubt_eps4.py'] == 'PGD' and told['corners_eps8.py'] == 'RandomCorners'
    assert int(told['two_streams_config.py']) > int(told['my_fusion_config.py']) > 0
    assert len(told) == len(names) - 1  # one needs what a search found


def test_results_are_told_for_every_tutorial():
    assert sorted(RESULTS) == [page.stem for page in TUTORIALS]
