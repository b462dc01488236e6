"""What the wheel alone does, without a checkout beside it: configs, attacks and commands by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPO, environment
from helpers import build_model
from mmengine.config import Config

OWN = """
_base_ = 'paif_mm::quickstart/segformer_general_synthetic.py'
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
"""


@pytest.fixture(scope='module')
def installed(tmp_path_factory) -> Path:
    """The folder that holds the package as a wheel installs it."""
    folder = tmp_path_factory.mktemp('wheel')
    for name in ('paif_mm', 'configs', 'tools', 'requirements'):
        shutil.copytree(REPO / name, folder / 'source' / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md'):
        shutil.copy(REPO / name, folder / 'source')
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    alone = ['--no-deps', '--no-index']
    subprocess.run([*pip, 'wheel', *alone, '--no-build-isolation', '-w', folder, folder / 'source'], check=True)
    (wheel,) = folder.glob('*.whl')
    subprocess.run([*pip, 'install', *alone, '--target', folder / 'site', wheel], check=True)
    shutil.rmtree(folder / 'source')
    return folder / 'site'


def paif(installed: Path, cwd: Path, *words) -> str:
    env = {**environment(installed, checkout=False), 'PYTHONWARNINGS': 'ignore'}
    command = [sys.executable, str(installed / 'bin' / 'paif'), *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def checkpoint(path: Path) -> Path:
    shipped = Config.fromfile(REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py')
    meta = {'dataset_meta': {'classes': tuple('abcdefghi'), 'palette': [[i, i, i] for i in range(9)]}}
    torch.save({'state_dict': build_model(shipped.model).state_dict(), 'meta': meta}, path)
    return path


def test_configs_attacks_and_tools_are_found_by_name(installed, synthetic_root, tmp_path):
    config = tmp_path / 'own.py'
    config.write_text(OWN.format(data=str(synthetic_root)))
    weights = checkpoint(tmp_path / 'w.pth')
    told = paif(installed, tmp_path, 'test', config, weights, '--attack', 'fgsm_eps4', '--work-dir', tmp_path / 'work')
    assert 'fgsm_eps4' in told and 'clean' in told


@pytest.mark.slow
def test_a_shipped_config_is_used_by_its_name(installed, synthetic_root, tmp_path):
    name = 'paif_mm::quickstart/segformer_general_synthetic.py'
    weights = checkpoint(tmp_path / 'w.pth')
    scenes = synthetic_root / 'images'
    assert '12 pairs' in paif(installed, tmp_path, 'predict', name, weights, '--visible', scenes, '--out', 'out')
    assert len(list((tmp_path / 'out' / 'pred').iterdir())) == 12
    assert 'FusionDataPreprocessor' in paif(installed, tmp_path, 'config', name)


@pytest.mark.slow
def test_every_shipped_config_can_be_a_base(installed, tmp_path):
    """All of them at once, in one process, which reads none of this checkout."""
    script = f"""
from pathlib import Path
import paif_mm
from paif_mm import zoo
from paif_mm.engine.launch import read_attack, read_config
assert Path(paif_mm.__file__).is_relative_to({str(installed)!r}), paif_mm.__file__
configs = zoo.ROOT / 'configs'
names = [path.relative_to(configs).as_posix() for path in configs.glob('*/*.py') if path.parent.name != '_base_']
for name in names:
    Path('own.py').write_text(f"_base_ = 'paif_mm::{{name}}'\\n")
    assert read_config('own.py').to_dict() == read_config(f'paif_mm::{{name}}').to_dict(), name
attacks = [read_attack(path.stem) for path in (configs / '_base_' / 'attacks').glob('*.py')]
print(len(names), len(attacks))
"""
    env = {**environment(installed, checkout=False), 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names, attacks = map(int, done.stdout.split())
    assert names == len([p for p in (REPO / 'configs').glob('*/*.py') if p.parent.name != '_base_']) > 50
    assert attacks == len(list((REPO / 'configs' / '_base_' / 'attacks').glob('*.py')))


def test_a_config_that_is_not_there_is_told():
    from paif_mm.engine.launch import ConfigError, read_config

    with pytest.raises(ConfigError, match=r'did you mean paif/segformer_sat_mfnet\?'):
        read_config('paif_mm::paif/segformer_sat_mfnte.py')
