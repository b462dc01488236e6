"""Every shipped config can be built, and says what is its own alone."""

import ast
from collections import defaultdict
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import REPO
from helpers import without_downloads
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope

from paif_mm.engine.launch import read_config
from paif_mm.engine.options import unused_hooks
from paif_mm.registry import ATTACKS, build

#: All but the families, which have a test of their own.
CONFIGS = sorted(p for p in (REPO / 'configs').rglob('*.py') if not {'_base_', 'families'} & set(p.parts))
#: All that are read with bases; the drop-in config is one file on purpose.
COMPOSED = sorted(p for p in (REPO / 'configs').rglob('*.py') if not {'_base_', 'dropin'} & set(p.parts))
ATTACK_CONFIGS = sorted((REPO / 'configs' / '_base_' / 'attacks').glob('*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_models_and_hooks_build(path):
    config = Config.fromfile(path)
    if '_retrain' in path.stem:  # what its search will have written
        assert config.model.data_preprocessor.fusion.genotype == searched_by(path)
        config.model.data_preprocessor.fusion.genotype = 'paif'
    without_downloads(config)
    init_default_scope(config.default_scope)
    with torch.device('meta') if config.model.type.startswith('paif_mm.') else nullcontext():  # of 60 to 150 million
        model = MODELS.build(config.model)
    if config.default_scope == 'mmseg':
        assert model.decode_head.num_classes == 9
    else:
        assert model.bbox_head.num_classes == (6 if 'm3fd' in path.stem else 3)
    preprocessor, loader = config.model.data_preprocessor, config.train_dataloader.dataset.pipeline[0].type
    if preprocessor.type == 'SegDataPreProcessor':  # a plain model of visible images, or one that fuses features
        assert loader == ('paif_mm.LoadPairFromFile' if len(preprocessor.mean) == 4 else 'LoadImageFromFile')
        assert path.parent.name == 'dual_stream' or len(preprocessor.mean) == 3
        return
    assert loader == 'paif_mm.LoadPairFromFile'
    if 'stretch' not in preprocessor and preprocessor.fusion.type != 'AverageFusion':  # which learns nothing
        assert any(type(HOOKS.build(hook)).__name__ == 'FusionLossHook' for hook in config.custom_hooks)


def searched_by(retrain_config) -> str:
    """The genotype that the search beside a retraining config writes by default."""
    search = retrain_config.stem.replace('_retrain_sat', '')
    assert (retrain_config.parent / f'{search}.py').is_file()
    return f'work_dirs/{search}/genotype.json'


@pytest.mark.parametrize('path', ATTACK_CONFIGS, ids=lambda p: p.stem)
def test_attacks_build_with_the_budget_of_their_name(path):
    attack = build(ATTACKS, Config.fromfile(path).attack)
    assert attack.steps == int(''.join(c for c in path.stem.split('_')[0].split('x')[0] if c.isdigit()) or 1)
    if path.stem.endswith('share99'):
        assert attack.share == 0.99
        return
    eps = max(attack.eps.values()) if isinstance(attack.eps, dict) else attack.eps
    assert path.stem.endswith(f'eps{round(eps * 255)}')


def test_the_paper_settings_are_the_papers():
    config = Config.fromfile(REPO / 'configs/paif/segformer_sat_mfnet.py')
    hook = HOOKS.build(config.custom_hooks[1])
    assert hook.ratio == 0.5
    assert hook.attack.eps == 8 / 255
    assert hook.attack.step_size == hook.attack.eps / 4
    assert hook.attack.steps == 5
    assert config.model.backbone.num_layers == [3, 4, 18, 3]
    assert config.train_cfg.max_iters == 20000
    assert config.optim_wrapper.optimizer.type == 'AdamW'


def test_the_search_settings_are_the_papers():
    config = Config.fromfile(REPO / 'configs/paif/segformer_hds_mfnet.py')
    assert config.train_cfg.type == 'paif_mm.HDSTrainLoop'
    assert config.train_cfg.max_iters == 100000
    assert config.train_cfg.arch_interval == 5
    assert config.train_cfg.bilevel == 'best_response'
    assert config.train_dataloader.batch_size == 4
    assert config.optim_wrapper.weights.optimizer.type == 'AdamW'
    assert config.optim_wrapper.weights.optimizer.lr == 8e-5
    assert config.optim_wrapper.alphas.optimizer == {'type': 'SGD', 'lr': 5e-3}
    hook = HOOKS.build(config.custom_hooks[1])
    assert hook.ratio == 0.25
    assert hook.attack.eps == 2 / 255
    assert hook.attack.steps == 3
    assert hook.begin == config.train_cfg.warmup_iters
    assert config.model.data_preprocessor.fusion.candidates == ['3-DC', '7-RB', '3-DB', 'CA']


@pytest.mark.parametrize(
    'path', [p for p in CONFIGS if p.stem.startswith('segformer_hds') and 'retrain' not in p.stem], ids=str
)
def test_the_original_search_differs_in_its_two_settings(path):
    config, original = (Config.fromfile(p) for p in (path, str(path).replace('_hds_', '_darts_')))
    assert original.train_cfg == {**config.train_cfg, 'bilevel': 'one_step', 'upper_level': 'mixed'}
    config.train_cfg = original.train_cfg
    assert original.to_dict() == config.to_dict()


def own_statements(path: Path) -> list[str]:
    """What a config says beside the list of its bases."""
    statements = ast.parse(path.read_text()).body
    return [ast.unparse(it) for it in statements if not ast.unparse(it).startswith('_base_ =')]


@cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


@pytest.mark.parametrize('path', COMPOSED, ids=lambda p: f'{p.parent.name}/{p.stem}')
def test_a_config_is_its_bases_and_a_handful_of_statements(path):
    assert len(own_statements(path)) <= 8
    config = read(path)
    hooks = {hook.type: hook for hook in config.get('custom_hooks', ())}
    for recipe in ('adversarial_training', 'meta_initialisation'):  # a recipe that is listed is also used
        if recipe in config:
            assert config[recipe].keys() <= hooks[config[recipe].type].keys()
    if 'supernet' in config:
        assert config.model.data_preprocessor.fusion == config.supernet
        assert config.train_cfg.type == 'paif_mm.HDSTrainLoop'
        assert config.train_cfg.warmup_iters == hooks['paif_mm.AdversarialAttackHook'].begin


@pytest.mark.parametrize('path', COMPOSED, ids=lambda p: f'{p.parent.name}/{p.stem}')
def test_schedules_end_with_their_training(path):
    config = read(path)
    schedulers = config.get('param_scheduler', ())
    schedulers = schedulers.weights if isinstance(schedulers, dict) else schedulers
    poly = [it for it in schedulers if it.type == 'PolyLR']
    assert [it.end for it in poly] == ([config.train_cfg.max_iters] if 'max_iters' in config.train_cfg else [])
    if poly:
        assert schedulers[0].end == poly[0].begin < poly[0].end


@pytest.mark.parametrize('path', COMPOSED, ids=lambda p: f'{p.parent.name}/{p.stem}')
def test_learning_rates_are_made_for_the_batch(path):
    """So that --auto-scale-lr changes nothing on one process."""
    config = read(path)
    assert config.auto_scale_lr == {'enable': False, 'base_batch_size': config.train_dataloader.batch_size}


def test_nothing_is_written_twice():
    """No two places of the configs share six lines; comments and lone brackets do not count."""
    places = defaultdict(set)
    for path in [*COMPOSED, *(REPO / 'configs/_base_').rglob('*.py')]:
        lines = [line.split('#')[0].strip() for line in path.read_text().splitlines()]
        lines = [line for line in lines if line.strip('()[]{},')]
        for i in range(len(lines) - 5):
            places['\n'.join(lines[i : i + 6])].add((path.stem, i))
    assert not {run: found for run, found in places.items() if len(found) > 1}


def test_a_recipe_whose_hook_is_left_out_is_told(tmp_path, capsys):
    """Of a product that lists sat.py alone: nothing would be attacked."""
    product = tmp_path / 'product.py'
    bases = ('models/segformer_mini.py', 'datasets/synthetic.py', 'recipes/sat.py', 'schedules/schedule_400.py')
    product.write_text(f'_base_ = {[str(REPO / "configs/_base_" / base) for base in bases]}\n')
    read_config(str(product))
    assert 'warning: adversarial_training of the config, paif_mm.AdversarialAttackHook, is in no custom_hooks' in (
        capsys.readouterr().err
    )


def test_shipped_recipes_use_their_hooks():
    for path in COMPOSED:
        assert unused_hooks(read(path)) == [], path
