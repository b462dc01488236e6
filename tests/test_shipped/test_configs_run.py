"""Every shipped config trains, validates and is tested under attack, by the Runner of our tools."""

import math
from pathlib import Path

import pytest
import torch
from conftest import REPO
from helpers import without_downloads
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from test_shipped.layouts import make_layouts
from test_shipped.products import PRODUCTS
from test_shipped.shrink import shrink

from paif_mm.attacks import AdversarialAttackHook
from paif_mm.engine.runner import QuietRunner
from paif_mm.fusion import NETWORKS, save_genotype
from paif_mm.fusion.genotype import GENOTYPES

CONFIGS = sorted(path for path in (REPO / 'configs').rglob('*.py') if '_base_' not in path.parts)
EPS = 4 / 255


@pytest.fixture(scope='module')
def workplace(tmp_path_factory) -> Path:
    """A folder as the configs expect it: their data sets under ``data``."""
    folder = tmp_path_factory.mktemp('workplace')
    make_layouts(folder / 'data')
    return folder


class Witness(Hook):
    """Remembers the parameters as training finds them, the losses, and the metrics of the validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.metrics = [], {}

    def before_train(self, runner):  # initialised, loaded and meta-initialised
        self.start = {name: value.detach().clone() for name, value in runner.model.named_parameters()}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.update(metrics)


def provide(config: Config) -> None:
    """Make what the config expects of earlier commands: a search's genotype, a pretraining's weights."""
    genotype = config.model.data_preprocessor.get('fusion', {}).get('genotype', '')
    if genotype.endswith('.json'):
        save_genotype(GENOTYPES['paif'], genotype)
    if config.get('load_from'):
        init_default_scope(config.default_scope)
        state = MODELS.build(config.model).state_dict()
        pretrained = {key: value for key, value in state.items() if '.fusion.' not in key}
        if '://' in config.load_from:  # a model of the zoo, whose weights are of its own size
            config.load_from = 'work_dirs/zoo.pth'
        Path(config.load_from).parent.mkdir(parents=True, exist_ok=True)
        torch.save({'meta': {}, 'state_dict': pretrained}, config.load_from)


def fused(names) -> dict:
    """The names of a model's parameters that belong to N, as N itself calls them."""
    return {name: name.split('.fusion.')[1] for name in names if '.fusion.' in name}


def check_views(config: Config) -> None:
    """Of the views of test-time augmentation, the first is what the plain test shows (``test_tta.py`` runs them)."""
    assert config.tta_model.type in ('SegTTAModel', 'DetTTAModel', 'AverageClsScoreTTA')
    plain, (*loading, views) = config.test_dataloader.dataset.pipeline, config.tta_pipeline
    assert views.type == 'TestTimeAug'
    assert plain[: len(loading)] == loading
    first = [step[0] for step in views.transforms]
    first = [step for step in first if step.get('prob', 1) != 0 and step.get('scale_factor') != 1]
    rest = [step for step in plain if step not in loading]
    assert [step.type.replace('paif_mm.LoadPair', 'Load') for step in first] == [
        step.type.replace('paif_mm.LoadPair', 'Load') for step in rest
    ]


def marked(path: Path):
    """Two streams under attack, and on ResNet-18, are the same as others once they are shrunk, but for the recipe."""
    slow = path.parent.name == 'dual_stream' and ('_sat_' in path.stem or '-r18_' in path.stem)
    return pytest.param(path, id=f'{path.parent.name}/{path.stem}', marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize('path', map(marked, CONFIGS))
def test_it_trains_validates_and_is_tested_under_attack(path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.delenv('PAIF_MM_DATA', raising=False)
    train_and_test(path)


def train_and_test(path: Path) -> Config:
    """Run a config, made small, and look at what its training and its attacked test did."""
    config = Config.fromfile(path)
    check_views(config)
    shrink(config)
    without_downloads(config)
    config.work_dir, config.launcher = f'work_dirs/{path.parent.name}/{path.stem}', 'none'
    provide(config)
    runner = QuietRunner.from_cfg(config)
    witness = Witness()
    runner.register_hook(witness)
    runner.train()

    assert len(witness.losses) == 2
    assert all(math.isfinite(loss) for loss in witness.losses)
    assert witness.metrics
    parameters, start = dict(runner.model.named_parameters()), witness.start
    moved = {name for name, value in parameters.items() if not torch.equal(value, start[name])}
    trained = {name for name, value in parameters.items() if value.requires_grad}
    alphas = {name for name in parameters if name.endswith('.alpha')}
    for part in (trained & set(fused(trained)), trained - set(fused(trained))):
        assert len(part & moved) > 0.5 * len(part) or not part, 'N and T are trained'
    assert moved - trained == alphas & moved, 'what a config freezes stays'
    if alphas:
        assert moved & alphas, 'the architecture step moved the alphas'
        assert (Path(config.work_dir) / 'genotype.json').is_file()
    if any('AATMetaInitHook' in hook.type for hook in config.get('custom_hooks', [])):
        found = torch.load(Path(config.work_dir) / 'theta_prime.pth', weights_only=True)['state_dict']
        assert fused(start)
        assert all(torch.equal(start[name], found[own]) for name, own in fused(start).items())
    if config.get('load_from'):
        loaded = torch.load(config.load_from, weights_only=True)['state_dict']
        assert all(torch.equal(start[name], value) for name, value in loaded.items() if name in start)

    hook = AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1}, phases=('test',))
    runner.register_hook(hook)
    assert runner.test()
    assert hook.audit.images == 1
    assert hook.audit.untouched
    assert all(0 < delta <= 255 * EPS + 1e-3 for delta in hook.audit.max_delta.values())
    return config


@pytest.mark.parametrize('name', PRODUCTS)
def test_a_new_product_is_a_data_set_in_one_file_and_a_handful_of_lines(name, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    folder = workplace / name
    folder.mkdir()
    data_set, product = (text.replace('configs/_base_', str(REPO / 'configs/_base_')) for text in PRODUCTS[name])
    (folder / 'own.py').write_text(data_set)
    (folder / f'{name}.py').write_text(product)
    config = train_and_test(folder / f'{name}.py')
    assert len(product.split(']', 1)[1].strip().splitlines()) <= 3
    assert config.train_dataloader.dataset.data_root == 'data/own'
    assert AdversarialAttackHook.__name__ in [hook.type.split('.')[-1] for hook in config.custom_hooks]


OWN_LOSSES = {
    'SeAFusion': ({}, {'type': 'SeAFusionLoss'}),
    'SDNet': ({'decomposition': True}, {'type': 'SDNetLoss'}),
    'DIDFuse': ({}, {'type': 'DIDFuseLoss'}),
    'TarDAL': ({}, {'type': 'TarDALLoss'}),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_every_published_network_trains_by_its_own_loss_and_is_attacked(name, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    settings, loss = OWN_LOSSES.get(name, ({}, {'type': 'FusionLoss'}))
    product = workplace / f'{name}.py'
    product.write_text(
        f"_base_ = '{REPO}/configs/zoo/seafusion_segformer_msrs.py'\n"
        f'_base_.model.data_preprocessor.fusion = {dict(type=name, **settings)}\n'
        f'_base_.custom_hooks[0].loss = {loss}\n'
    )
    assert train_and_test(product).model.data_preprocessor.fusion.type == name
