"""Every shipped config trains, validates and is tested under attack, by the Runner of our tools."""

import math
from pathlib import Path

import pytest
import torch
from conftest import REPO
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from test_shipped.layouts import make_layouts
from test_shipped.shrink import shrink

from paif_mm.attacks import AdversarialAttackHook
from paif_mm.engine.runner import QuietRunner
from paif_mm.fusion import save_genotype
from paif_mm.fusion.genotype import GENOTYPES
from paif_mm.perception import find_fuser

CONFIGS = sorted(path for path in (REPO / 'configs').rglob('*.py') if '_base_' not in path.parts)
EPS = 4 / 255


@pytest.fixture(scope='module')
def workplace(tmp_path_factory) -> Path:
    """A folder as the configs expect it: their data sets under ``data``."""
    folder = tmp_path_factory.mktemp('workplace')
    make_layouts(folder / 'data')
    return folder


class Witness(Hook):
    """Remembers the losses, and the metrics of the validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.metrics = [], {}

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
        Path(config.load_from).parent.mkdir(parents=True, exist_ok=True)
        torch.save({'meta': {}, 'state_dict': pretrained}, config.load_from)


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


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_it_trains_validates_and_is_tested_under_attack(path, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.delenv('PAIF_MM_DATA', raising=False)
    config = Config.fromfile(path)
    check_views(config)
    shrink(config)
    config.work_dir, config.launcher = f'work_dirs/{path.parent.name}/{path.stem}', 'none'
    provide(config)
    runner = QuietRunner.from_cfg(config)
    witness = Witness()
    runner.register_hook(witness)
    fuser = find_fuser(runner.model)
    before = {name: value.detach().clone() for name, value in runner.model.named_parameters()}
    runner.train()

    assert len(witness.losses) == 2
    assert all(math.isfinite(loss) for loss in witness.losses)
    assert witness.metrics
    moved = {name for name, value in runner.model.named_parameters() if not torch.equal(value, before[name])}
    held = {name for name, value in runner.model.named_parameters() if not value.requires_grad}
    assert not {name for name in held & moved if not name.endswith('.alpha')}, 'what a config freezes stays'
    assert any('fusion' not in name for name in moved)
    if fuser is not None and any(parameter.requires_grad for parameter in fuser.fusion.parameters()):
        assert any('fusion' in name for name in moved)
    alphas = [name for name in before if name.endswith('.alpha')]
    if alphas:
        assert any(name in moved for name in alphas), 'the architecture step moved the alphas'
        assert (Path(config.work_dir) / 'genotype.json').is_file()
    if any('AATMetaInitHook' in hook.type for hook in config.custom_hooks):
        assert (Path(config.work_dir) / 'theta_prime.pth').is_file()

    hook = AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1}, phases=('test',))
    runner.register_hook(hook)
    assert runner.test()
    assert hook.audit.images == 1
    assert hook.audit.untouched
    assert all(0 < delta <= 255 * EPS + 1e-3 for delta in hook.audit.max_delta.values())
