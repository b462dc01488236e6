"""The zoo: models published by the tool come back as they were, and nothing else does."""

import json
import subprocess
import sys

import publish_model
import pytest
import torch
from conftest import REPO
from helpers import build_model
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from test_tools.commands import run

from paif_mm import zoo
from paif_mm.data.synthetic import make_synthetic
from paif_mm.engine.launch import ConfigError, model_files, read_config
from paif_mm.files import file_hash

CONFIG = REPO / 'configs' / 'quickstart' / 'segformer_general_synthetic.py'


SHIPPED = zoo.models()


@pytest.fixture(scope='module')
def published(tmp_path_factory, synthetic_root):
    """A zoo of a segmentor and its fusion network, and the segmentor's own checkpoint."""
    folder = tmp_path_factory.mktemp('zoo')
    checkpoint, results = folder / 'iter_7.pth', folder / 'results.json'
    state = build_model(Config.fromfile(CONFIG).model).state_dict()
    torch.save({'state_dict': state, 'meta': {'iter': 7, 'dataset_meta': {'classes': ('a', 'b')}}}, checkpoint)
    results.write_text(json.dumps({'results': {'clean': {}, 'pgd': {'metrics': {'mIoU': 1.234, 'IoU/car': 2}}}}))
    common = [str(CONFIG), str(checkpoint), '--title', 'T', '--data', 'scenes', '--licence', 'any']
    common += ['--out', str(folder / 'models'), '--figures', str(results)]
    options = ['--cfg-options', f'test_dataloader.dataset.data_root={synthetic_root}', 'test_dataloader.num_workers=0']
    for name, part in (('whole', []), ('network', ['--part', 'data_preprocessor.fusion'])):
        run('publish_model.py', *common, '--name', name, *part, *options)
    patch = pytest.MonkeyPatch()
    patch.setattr(zoo, 'FOLDER', folder / 'models')
    patch.setattr(zoo, 'INDEX', folder / 'models' / 'model-index.yml')
    yield checkpoint
    patch.undo()


def test_weights_come_back_in_single_precision_up_to_rounding(published):
    original = torch.load(published, weights_only=True)['state_dict']
    loaded = CheckpointLoader.load_checkpoint('paif_mm://whole', 'cpu')
    assert loaded['meta']['dataset_meta']['classes'] == ('a', 'b')
    assert loaded['state_dict'].keys() == original.keys()
    for name, value in original.items():
        assert loaded['state_dict'][name].dtype == value.dtype
        torch.testing.assert_close(loaded['state_dict'][name], value, rtol=1e-3, atol=1e-7)
    stored = torch.load(zoo.find('whole').weights, weights_only=True)['state_dict']
    assert {value.dtype for value in stored.values()} == {torch.float16, torch.int64}


def test_a_part_is_loaded_by_init_cfg(published):
    config = Config.fromfile(CONFIG).model
    config.data_preprocessor.fusion.init_cfg = {'type': 'Pretrained', 'checkpoint': 'paif_mm://network'}
    fusion = build_model(config, seed=5).data_preprocessor.fusion
    original = torch.load(published, weights_only=True)['state_dict']
    for name, value in fusion.state_dict().items():
        torch.testing.assert_close(value, original[f'data_preprocessor.fusion.{name}'], rtol=1e-3, atol=1e-7)


def test_config_and_weights_are_found_by_one_name(published):
    assert model_files('paif_mm://whole') == (str(CONFIG), str(zoo.find('whole').weights))
    assert model_files('paif_mm://whole', str(published)) == (str(CONFIG), str(published))
    assert model_files(str(CONFIG), 'paif_mm://whole') == (str(CONFIG), str(zoo.find('whole').weights))
    with pytest.raises(ConfigError, match='part of a model'):
        model_files('paif_mm://network')
    with pytest.raises(ConfigError, match='give a checkpoint after the config'):
        model_files(str(CONFIG))


def test_the_metafile_tells_where_a_model_comes_from(published):
    facts = zoo.find('whole').facts
    assert facts['Config'] == 'configs/quickstart/segformer_general_synthetic.py'
    assert facts['Metadata']['Iterations'] == 7
    assert facts['Results'][0]['Dataset'] == 'paif_mm.MFNetDataset'
    assert facts['Metadata']['Precision'] == 'fp16'
    metrics = facts['Results'][0]['Metrics']
    assert 0 < metrics['mIoU'] < 100
    assert metrics['mIoU, pgd'] == 1.23
    assert 'IoU/car, pgd' not in metrics
    assert 'Config' not in zoo.find('network').facts


def test_unknown_names_and_changed_files_are_refused(published):
    with pytest.raises(KeyError, match='did you mean whole'):
        zoo.checked('paif_mm://whoel')
    path = zoo.find('whole').weights
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b'x')
    with pytest.raises(ValueError, match='not what was published'):
        CheckpointLoader.load_checkpoint('paif_mm://whole', 'cpu')
    path.unlink()
    with pytest.raises(FileNotFoundError, match='install paif_mm again'):
        zoo.checked('paif_mm://whole')
    path.write_bytes(content)


def test_every_shipped_model_is_whole():
    for model in SHIPPED.values():
        assert file_hash(model.weights) == model.sha256
        assert model.config is None or model.config.is_file()
    assert sum(model.weights.stat().st_size for model in SHIPPED.values()) <= publish_model.LARGEST_ZOO


@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_model_answers_as_when_it_was_published(name):
    config, part = trained_by(name)
    expected = SHIPPED[name].facts['Checks']['A made-up pair']
    found = publish_model.answer(config, str(SHIPPED[name].weights), part)
    assert found.keys() == expected.keys()
    for kind, values in found.items():
        assert values == pytest.approx(expected[kind], abs=0.3), kind


WHOLE = [name for name, model in SHIPPED.items() if model.config]
SYNTHETIC = [name for name in WHOLE if name.endswith('_synthetic')]


@pytest.mark.realdata
@pytest.mark.parametrize('name', sorted({*WHOLE} - {*SYNTHETIC}))
def test_a_model_of_real_pairs_reaches_its_figures(name, real_data, monkeypatch):
    monkeypatch.setenv('PAIF_MM_DATA', str(real_data))
    reaches_its_figures(name, trained_by(name)[0])


@pytest.mark.parametrize('name', SYNTHETIC)
def test_a_model_of_synthetic_scenes_reaches_its_figures(name, tmp_path):
    config, _ = trained_by(name)
    make_synthetic(tmp_path / 'scenes', train=1, val=60, size=(96, 128), progress=False)
    config.test_dataloader.dataset.data_root = str(tmp_path / 'scenes')
    reaches_its_figures(name, config)


def reaches_its_figures(name: str, config: Config) -> None:
    state = torch.load(SHIPPED[name].weights, weights_only=True)['state_dict']
    (found,) = publish_model.tested(config, [state], publish_model.HANDFUL)
    assert found == pytest.approx(SHIPPED[name].facts['Checks']['Eight pairs of the test set'], abs=0.3)


def trained_by(name: str) -> tuple[Config, str]:
    """The config of a model or of the model that it is a part of, and which part that is."""
    facts = SHIPPED[name].facts
    path, _, part = facts['Metadata'].get('Part of', facts.get('Config')).partition(', ')
    return read_config(str(zoo.ROOT / path)), part


def test_the_models_are_listed():
    done = subprocess.run([sys.executable, '-m', 'paif_mm.zoo'], capture_output=True, text=True, check=True, cwd=REPO)
    assert all(f'paif_mm://{name}' in done.stdout for name in SHIPPED)
    wrong = subprocess.run([sys.executable, '-m', 'paif_mm.zoo', 'nothing'], capture_output=True, text=True, cwd=REPO)
    assert wrong.returncode == 1 and 'there is no model nothing' in wrong.stderr


def test_the_pages_tell_the_figures_of_the_models():
    page, readme = (REPO / 'docs' / 'zoo.md').read_text(), (REPO / 'README.md').read_text()
    for name, model in SHIPPED.items():
        (row,) = (line.split(' | ') for line in page.splitlines() if line.startswith(f'| `{name}` '))
        figure = model.facts['Results'][0]['Metrics']['mIoU']
        assert f'{figure:.2f}' in row, name
        assert f'{model.weights.stat().st_size / 1e6:.1f}' in row[-1], name
    figure = SHIPPED['segformer_mobilenet-v2_msrs'].facts['Results'][0]['Metrics']['mIoU']
    assert f'mean IoU {figure:.1f} %' in ' '.join(readme.split())
