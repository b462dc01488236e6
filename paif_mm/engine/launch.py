"""What the command-line tools share: mmseg's flags, and a config made ready to run."""

import argparse
import json
import os
import os.path as osp
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader

from paif_mm import zoo
from paif_mm.arguments import Parser, output_folder
from paif_mm.checks import check_settings
from paif_mm.compat import init_cpu_distributed
from paif_mm.mistakes import said
from paif_mm.spelling import choices
from paif_mm.weights import load_weights

from .options import unread_options, unused_hooks

CONFIG_ENDINGS = ('.py', '.yml', '.yaml', '.json')
ATTACKS = zoo.ROOT / 'configs' / '_base_' / 'attacks'


class ConfigError(ValueError):
    """A file of the command line is no config, or no checkpoint; the message is one line for the user."""


def add_common_arguments(parser: Parser) -> None:
    """Add the flags that mmseg's train and test tools have in common."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results (default: work_dirs/<config>)')
    parser.add_config_options()
    parser.add_launcher()


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a tool's command line: overrides, work dir (flag > config > file name) and launcher.

    Raises:
        ConfigError: see :func:`read_config`.
        SystemExit: nothing can be written to the work dir.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = read_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    name = osp.splitext(osp.basename(args.config))[0]
    config.work_dir = args.work_dir or config.get('work_dir') or osp.join('work_dirs', name)
    output_folder(config.work_dir, '--work-dir')
    init_cpu_distributed(config)
    return config


def read_config(path: str, options: Mapping | None = None) -> Config:
    """A config file with the settings of ``--cfg-options``; says on the console which of these nobody reads.

    Raises:
        ConfigError: there is no such file, it is no config, or the settings don't fit it.
        SettingError: see :func:`~paif_mm.checks.check_settings`.
    """
    check_config_file(path)
    try:
        config = Config.fromfile(zoo.config_file(path))
    except Exception as error:  # whatever a config file does
        raise ConfigError(f"config {path} can't be read: {said(error)}") from error
    lines = unused_hooks(config)
    if options:
        lines += unread_options(config, options)
    if os.environ.get('RANK', '0') == '0':
        for line in lines:
            print(f'warning: {line}', file=sys.stderr)
    if options:
        try:
            config.merge_from_dict(options)
        except (KeyError, TypeError, AssertionError, AttributeError) as error:
            raise ConfigError(f'--cfg-options do not fit {path}: {said(error)}') from error
    check_settings(config.to_dict())
    return config


def needed(config: Config, section: str, what: str) -> ConfigDict:
    """A section of a config.

    Raises:
        ConfigError: there is none; ``what`` needs it.
    """
    if not config.get(section):
        raise ConfigError(f'{config.filename} has no {section}, which {what} needs')
    return config[section]


def check_config_file(path: str) -> None:
    """Raise a ConfigError where a path is none of a config file."""
    try:
        path = zoo.config_file(path)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from None
    if osp.isdir(path):
        raise ConfigError(f'config {path} is a folder: give the file')
    if not osp.isfile(path):
        raise ConfigError(f'config {path} does not exist')
    if not path.endswith(CONFIG_ENDINGS):
        raise ConfigError(f'{path} is no config, whose name ends with {", ".join(CONFIG_ENDINGS)}')


def model_files(config: str, checkpoint: str | None = None) -> tuple[str, str]:
    """Config and checkpoint of a tool's command line as files; ``paif_mm://NAME`` alone is both of a model in the zoo.

    Raises:
        ConfigError: before anything is read, where two arguments are none of a config and its checkpoint.
        KeyError, FileNotFoundError, ValueError: see :func:`paif_mm.zoo.checked`.
    """
    if config.startswith(zoo.SCHEME):
        model = zoo.checked(config)
        if model.config is None:
            raise ConfigError(f'{config} is a part of a model, without a config: give it as checkpoint of an init_cfg')
        config, checkpoint = str(model.config), checkpoint or str(model.weights)
    if checkpoint is None:
        raise ConfigError(f'give a checkpoint after the config {config}')
    if checkpoint.startswith(zoo.SCHEME):
        checkpoint = str(zoo.checked(checkpoint).weights)
    if checkpoint.endswith(CONFIG_ENDINGS) and not config.endswith(CONFIG_ENDINGS) and osp.isfile(checkpoint):
        raise ConfigError(f'the config comes first, then the checkpoint: exchange {config} and {checkpoint}')
    check_config_file(config)
    if checkpoint.endswith(CONFIG_ENDINGS):
        raise ConfigError(f'{checkpoint} is a config: give a checkpoint after the config')
    if osp.isdir(checkpoint):
        raise ConfigError(f'checkpoint {checkpoint} is a folder: give the file')
    if not osp.isfile(checkpoint) and '://' not in checkpoint:
        raise ConfigError(f'checkpoint {checkpoint} does not exist')
    return zoo.config_file(config), checkpoint


def inner_datasets(dataset: dict) -> list[dict]:
    """The configs with a pipeline of their own in that of a data set, which may be a wrapper (``ConcatDataset``...)."""
    if 'pipeline' in dataset:
        return [dataset]
    inner = [*dataset.get('datasets', []), *([dataset['dataset']] if 'dataset' in dataset else [])]
    return [found for one in inner for found in inner_datasets(one)]


def unaugmented(config: Config, split: str):
    """The pairs and labels of a split as they are on disk."""
    dataset = needed(config, f'{split}_dataloader', '--split').dataset
    if 'pipeline' not in dataset:
        raise SystemExit(
            f'{split}_dataloader.dataset ({dataset.type}) has no pipeline of its own: name the inner data set'
        )
    return DATASETS.build({**dataset, 'pipeline': config.test_dataloader.dataset.pipeline})


def apply_tta(config: Config) -> None:
    """Let a config test with test-time augmentation; changed in place.

    Raises:
        SystemExit: it defines none.
    """
    missing = [key for key in ('tta_pipeline', 'tta_model') if not config.get(key)]
    if missing:
        raise SystemExit(f'--tta needs {" and ".join(missing)} in the config, as configs/_base_/tta has them')
    stock = config.pop('data_preprocessor', None)  # mmengine would put it over the model's own, fusion and all
    if stock is not None:
        config.model.setdefault('data_preprocessor', stock)
    for dataset in inner_datasets(config.test_dataloader.dataset):
        dataset.pipeline = config.tta_pipeline
    config.model = {**config.tta_model, 'module': config.model}


def load_model(config: str | Config, checkpoint: str):
    """A trained model in evaluation mode, on the GPU if there is one, and its config.

    Args:
        config: file or read config.
        checkpoint: its weights; all of them must fit.

    Raises:
        WeightsError: they do not.
    """
    if isinstance(config, str):
        config = read_config(config)
    init_default_scope(config.get('default_scope', 'mmseg'))
    model = MODELS.build(config.model)
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu', logger='silent')
    load_weights(model, content, checkpoint)
    if not torch.cuda.is_available():
        model = revert_sync_batchnorm(model)
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').eval(), config


def read_attacks(names: Sequence[str]) -> dict[str, dict]:
    """Name -> attack of several configs, see :func:`read_attack`; the name is the file's.

    Raises:
        SystemExit: two are of one name, or one is called as the clean test.
    """
    attacks = {}
    for name in names:
        stem = Path(name).stem
        if stem in attacks or stem == 'clean':
            raise SystemExit(f'--attack {name}: there is a test called {stem} already: rename the file')
        attacks[stem] = read_attack(name)
    return attacks


def read_attack(name: str) -> dict:
    """The attack of a config given by path or by its name in ``configs/_base_/attacks``.

    Raises:
        SystemExit: there is no such config, or it defines no attack.
    """
    path = Path(name) if name.endswith('.py') else ATTACKS / f'{name}.py'
    if not path.is_file():
        known = choices(path.stem, (p.stem for p in ATTACKS.glob('*.py')))
        raise SystemExit(f'attack {name} does not exist: give a path to a config, or a name. {known}')
    config = read_config(str(path))
    if 'attack' not in config:
        raise SystemExit(f"attack config {path} defines no attack: write attack = dict(type='PGD', eps=...)")
    return plain_settings(config, 'attack')


def plain_settings(config: Config, section: str) -> dict:
    """A section of a config that results are going to name, empty where there is none.

    Raises:
        ConfigError: it holds what no JSON can.
    """
    settings = config.to_dict().get(section) or {}
    try:
        json.dumps(settings)
    except TypeError:
        raise ConfigError(
            f"{section} of {config.filename} holds an object, which results can't write down: name a function as "
            "'package.module.function'"
        ) from None
    return settings
