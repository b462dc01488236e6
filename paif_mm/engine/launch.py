"""What the command-line tools share: mmseg's flags, and a config made ready to run."""

import argparse
import os
import os.path as osp
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader

from paif_mm.checks import ClassCountError
from paif_mm.compat import init_cpu_distributed
from paif_mm.weights import WeightsError, load_weights

from .resuming import NoCheckpointError

ATTACKS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'attacks'


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that mmseg's train and test tools have in common."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results (default: work_dirs/<config>)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings of the config: xxx=yyy, nested keys with dots, lists as key="[a,b]" or key=a,b',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)  # torch.distributed.launch passes it


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of a tool's command line: overrides, work dir (flag > config > file name) and launcher.

    Raises:
        SystemExit: the config file does not exist.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not osp.isfile(args.config):
        raise SystemExit(f'config {args.config} does not exist')
    config = Config.fromfile(args.config)
    config.launcher = args.launcher
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    name = osp.splitext(osp.basename(args.config))[0]
    config.work_dir = args.work_dir or config.get('work_dir') or osp.join('work_dirs', name)
    init_cpu_distributed(config)
    return config


def inner_datasets(dataset: dict) -> list[dict]:
    """The configs with a pipeline of their own in that of a data set, which may be a wrapper (``ConcatDataset``...)."""
    if 'pipeline' in dataset:
        return [dataset]
    inner = [*dataset.get('datasets', []), *([dataset['dataset']] if 'dataset' in dataset else [])]
    return [found for one in inner for found in inner_datasets(one)]


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
        config = Config.fromfile(config)
    init_default_scope(config.get('default_scope', 'mmseg'))
    model = MODELS.build(config.model)
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu', logger='silent')
    load_weights(model, content, checkpoint)
    if not torch.cuda.is_available():
        model = revert_sync_batchnorm(model)
    return model.to('cuda' if torch.cuda.is_available() else 'cpu').eval(), config


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Let a tool end with the message alone where its config, its data and its checkpoint do not go together.

    Raises:
        SystemExit: they do not.
    """
    try:
        yield
    except (ClassCountError, NoCheckpointError, WeightsError) as error:
        raise SystemExit(str(error)) from None


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
        known = ', '.join(sorted(p.stem for p in ATTACKS.glob('*.py')))
        raise SystemExit(f'attack {name} does not exist: give a path to a config or one of {known}')
    config = Config.fromfile(path)
    if 'attack' not in config:
        raise SystemExit(f"attack config {path} defines no attack: write attack = dict(type='PGD', eps=...)")
    return config.attack.to_dict()


def fraction(text: str) -> float:
    """'4/255' or '0.0157' as a number."""
    numerator, _, denominator = text.partition('/')
    return float(numerator) / float(denominator or 1)
