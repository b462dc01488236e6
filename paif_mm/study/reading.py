"""Plans of studies and their scales, read from YAML and checked."""

import copy
import functools
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from mmengine.config import Config

from paif_mm.files import config_hash

from .plan import PLACEHOLDER, Job, Plan, PlanError, Row

PLAN = {'title': str, 'text': str, 'scale': (str, Mapping), 'classes': list, 'robustness': Mapping, 'rows': list}
SCALE = {'seeds': list, 'robustness': Mapping, 'options': Mapping, 'before': Mapping, 'configs': Mapping}
ROW = {'name': str, 'group': str, 'config': str, 'options': Mapping, 'paper': Mapping}
STEP = {'config': str, 'options': Mapping, 'each_seed': bool}
BANK = {'craft': str, 'each_seed': bool}
KINDS = {str: 'text', list: 'a list', Mapping: 'a mapping of keys', bool: 'true or false'}


def read_plan(
    path: str | Path, work_dir: str | Path, scale: str | None = None, seeds: Sequence[int] | None = None
) -> Plan:
    """Read a plan and the scale that it is run at.

    A plan is YAML with ``title``, ``text``, ``classes`` and ``rows``, each with a ``name``, a ``config`` and, if
    wanted, ``options`` (as in ``--cfg-options``, but any YAML), ``group`` and the ``paper``'s figures. A scale is
    YAML, too: ``seeds``, flags for ``robustness`` (a plan may have further ones), ``configs`` (name -> file, what rows
    call them), ``options`` of all rows, and ``before``: steps that options refer to as ``{NAME.checkpoint}`` or
    ``{NAME.folder}``, trained first, with seed 0 or, by ``each_seed: true``, with the row's. A step with ``craft:
    STEP`` makes an attack bank of that step's model, with flags of ``tools/craft_attacks.py``. Files are relative to
    the YAML file that names them.

    Args:
        path: the plan.
        work_dir: folder of the study.
        scale: name of a YAML file in the folder ``scales`` beside the plan, or the path of one. Default: the plan's own
            ``scale``, a mapping or a name.
        seeds: instead of the scale's.

    Raises:
        PlanError: a file or a key is missing, unknown or wrong.
    """
    path, work_dir = Path(path), Path(work_dir)
    content = _read_yaml(path)
    _check(content, PLAN, ('title', 'rows'), path)
    _check_items(content.get('classes', []), str, f'{path}: classes')
    scale, scale_path = _read_scale(path, content, scale)
    seeds = _check_seeds(list(seeds) if seeds else scale['seeds'], scale_path)
    robustness = {**scale.get('robustness', {}), **content.get('robustness', {})}
    maker = _JobMaker({**scale, 'robustness': robustness}, scale_path, work_dir)
    rows = [_read_row(entry, maker, seeds, path) for entry in content['rows']]
    names = [row.name for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PlanError(f'{path}: two rows are called {", ".join(twice)}')
    name = path.stem if scale_path == path else f'{path.stem}_{scale_path.stem}'
    return Plan(name, content['title'], content.get('text', ''), tuple(content.get('classes', ())), tuple(rows))


def _read_row(entry: Mapping, maker: '_JobMaker', seeds: Sequence[int], path: Path) -> Row:
    where = f'{path}, row {entry.get("name")!r}' if isinstance(entry, Mapping) else f'{path}: row {entry!r}'
    _check(entry, ROW, ('name', 'config'), where)
    paper = entry.get('paper', {})
    _check_items(paper.values(), (int, float), f'{where}: paper')
    jobs = tuple(maker.row(entry, seed, where, path.parent) for seed in seeds)
    return Row(entry['name'], entry.get('group', ''), dict(paper), jobs)


class _JobMaker:
    """Makes the jobs of a plan at a scale."""

    def __init__(self, scale: Mapping, path: Path, work_dir: Path):
        self.scale = scale
        self.path = path
        self.work_dir = work_dir
        self.open: list[str] = []  # steps that are being made: one that needs itself is found among them

    def row(self, entry: Mapping, seed: int, where: str, folder: Path) -> Job:
        configs = self.scale.get('configs', {})
        name = entry['config']
        if name in configs:
            file = self.path.parent / configs[name]
        elif name.endswith('.py'):
            file = folder / name
        else:
            raise PlanError(f'{where}: config {name!r} is none of the configs of {self.path}: {", ".join(configs)}')
        options = {**self.scale.get('options', {}), **entry.get('options', {})}
        return self._training(entry['name'], seed, file, options, where, self.scale['robustness'])

    def step(self, name: str, seed: int, where: str) -> Job:
        """A step of ``before``."""
        steps = self.scale.get('before', {})
        if name not in steps:
            raise PlanError(f'{where} needs {name!r}, which is no step of before in {self.path}')
        entry, here = steps[name], f'{self.path}, step {name!r}'
        if name in self.open:
            raise PlanError(f'{here} needs itself')
        self.open.append(name)
        seed = seed if isinstance(entry, Mapping) and entry.get('each_seed') else 0
        if isinstance(entry, Mapping) and 'craft' in entry:
            job = self._bank(name, seed, entry, here)
        else:
            _check(entry, STEP, ('config',), here)
            job = self._training(name, seed, self.path.parent / entry['config'], entry.get('options', {}), here)
        self.open.remove(name)
        return job

    def _training(self, name, seed, file: Path, options: Mapping, where: str, robustness=None) -> Job:
        if not file.is_file():
            raise PlanError(f'{where}: config {file} does not exist')
        try:
            config = _read_config(file)
        except Exception as error:  # whatever a config file does
            text = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise PlanError(f"{where}: config {file} can't be read: {text}") from error
        try:
            config.merge_from_dict(_like(config, options))
        except (KeyError, TypeError, AssertionError, AttributeError) as error:
            raise PlanError(f'{where}: options do not fit {file}: {error}') from error
        needs = {key: self._needed(key, what, seed, where) for key, what in _placeholders(options, where)}
        made_of = [_without_place(config.to_dict()), *(self._identity(key, need) for key, need in needs.items())]
        folder = self.work_dir / f'{file.stem}-{config_hash(made_of)[:8]}' / f'seed{seed}'
        return Job(name, seed, folder, config, needs, robustness=robustness)

    def _bank(self, name: str, seed: int, entry: Mapping, where: str) -> Job:
        flags = {key: value for key, value in entry.items() if key not in BANK}
        _check({key: value for key, value in entry.items() if key in BANK}, BANK, ('craft',), where)
        source = self._needed(entry['craft'], 'checkpoint', seed, where)
        digest = config_hash([self._identity(entry['craft'], source), flags])
        folder = self.work_dir / f'{re.sub("[^a-zA-Z0-9_-]+", "_", name)}-{digest[:8]}' / f'seed{seed}'
        return Job(name, seed, folder, None, {'source': source}, craft=flags)

    def _needed(self, name: str, what: str, seed: int, where: str) -> Job:
        job = self.step(name, seed, where)
        if what == 'checkpoint' and job.craft is not None:
            raise PlanError(f'{where} needs a checkpoint of {name!r}, which makes a bank')
        return job

    def _identity(self, name: str, job: Job) -> list:
        """What of a needed job makes another model of what needs it."""
        return [job.folder.parent.name, bool(self.scale['before'][name].get('each_seed'))]


def _like(before, value):
    """An option as what it replaces: YAML knows no tuples, on which some transforms insist."""
    if isinstance(value, Mapping):
        return {key: _like(_at(before, key), item) for key, item in value.items()}
    return tuple(value) if isinstance(before, tuple) and isinstance(value, list) else value


def _at(value, path: str):
    """What is at a dotted path; None where there is nothing."""
    for part in path.split('.'):
        try:
            value = value[int(part) if isinstance(value, list | tuple) else part]
        except (KeyError, ValueError, IndexError, TypeError):
            return None
    return value


def _without_place(value):
    """A config whose data are in ``data``, wherever ``PAIF_MM_DATA`` says that they are."""
    if isinstance(value, Mapping):
        return {key: _without_place(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_place(item) for item in value]
    data = os.environ.get('PAIF_MM_DATA', 'data').rstrip('/')
    inside = isinstance(value, str) and value.startswith(f'{data}/')
    return os.path.normpath(f'data{value.removeprefix(data)}') if inside else value


def _placeholders(value, where: str) -> Iterator[tuple[str, str]]:
    """(step, 'checkpoint' or 'folder') of everything that an option refers to."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _placeholders(item, where)
    if isinstance(value, str):
        for text in re.findall(r'\{[^{}]*\.[^{}]*\}', value):
            if not PLACEHOLDER.fullmatch(text):
                raise PlanError(
                    f'{where}: {text} must be {{NAME.checkpoint}} or {{NAME.folder}}, with a step of before'
                )
        yield from PLACEHOLDER.findall(value)


def _read_scale(path: Path, plan: Mapping, scale: str | None) -> tuple[Mapping, Path]:
    scale = scale or plan.get('scale')
    if scale is None:
        raise PlanError(
            f'{path} names no scale: give --scale NAME, a YAML file in scales/ beside it, or write scale: into it'
        )
    if isinstance(scale, Mapping):
        content, file, where = scale, path, f'{path}, scale'
    else:
        file = Path(scale) if str(scale).endswith(('.yaml', '.yml')) else path.parent / 'scales' / f'{scale}.yaml'
        content, where = _read_yaml(file), str(file)
    _check(content, SCALE, ('seeds',), where)
    _check_items(content.get('configs', {}).values(), str, f'{where}: configs')
    return content, file


def _read_config(file: Path) -> Config:
    return copy.deepcopy(_parse_config(file.resolve(), file.stat().st_mtime_ns))


@functools.cache
def _parse_config(file: Path, changed: int) -> Config:
    logging.disable(logging.INFO)  # mmengine's word on every environment variable
    try:
        return Config.fromfile(file)
    finally:
        logging.disable(logging.NOTSET)


def _read_yaml(path: Path) -> Mapping:
    if not path.is_file():
        raise PlanError(f'{path} does not exist')
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f'{path} is no YAML: {" ".join(str(error).split())}') from error


def _check(content, kinds: Mapping, needed: Sequence[str], where) -> None:
    """A mapping with the needed keys, no unknown ones, and values of the right kinds."""
    if not isinstance(content, Mapping):
        raise PlanError(f'{where} must be a mapping of keys, not {type(content).__name__}')
    if missing := sorted(set(needed) - set(content)):
        raise PlanError(f'{where}: {", ".join(missing)} is missing')
    if unknown := sorted(str(key) for key in set(content) - set(kinds)):
        raise PlanError(f'{where}: unknown {", ".join(unknown)}; known are {", ".join(sorted(kinds))}')
    for key, value in content.items():
        if not isinstance(value, kinds[key]):
            kind = kinds[key] if isinstance(kinds[key], tuple) else (kinds[key],)
            raise PlanError(f'{where}: {key} must be {" or ".join(KINDS[it] for it in kind)}, not {value!r}')
        if isinstance(value, Mapping):
            _check_items(value, str, f'{where}: keys of {key}')


def _check_items(items, kind, where: str) -> None:
    for item in items:
        if not isinstance(item, kind) or isinstance(item, bool):
            raise PlanError(f'{where} must be {"texts" if kind is str else "numbers"}, not {item!r}')


def _check_seeds(seeds: Sequence, path: Path) -> Sequence[int]:
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise PlanError(f'{path}: seeds must be different whole numbers, not {seeds}')
    return seeds
