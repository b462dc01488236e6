"""Plans of studies, read from YAML: which models to train, from what, and what the paper says of them."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from mmengine.config import Config

from paif_mm.files import config_hash

#: '{T.checkpoint}' or '{HDS search.folder}' in an option: what another step of the plan left.
PLACEHOLDER = re.compile(r'\{([^{}.]+)\.(checkpoint|folder)\}')
PLAN_KEYS = {'title', 'text', 'scale', 'classes', 'robustness', 'rows'}
SCALE_KEYS = {'seeds', 'robustness', 'options', 'before', 'configs'}
ROW_KEYS = {'name', 'group', 'config', 'options', 'paper'}
STEP_KEYS = {'config', 'options', 'each_seed'}


class PlanError(ValueError):
    """A plan can't be read; the message names the file and the key."""


@dataclass(frozen=True, eq=False)
class Job:
    """One model to train (and, for rows, to test), or one attack bank to make, with one seed.

    Attributes:
        name (str): as in the plan.
        seed (int): of everything random in it.
        folder (Path): its own, named after what it is made of: two plans that ask for the same share it.
        config (Config | None): with the options, placeholders as they are; None for a bank.
        needs (dict[str, Job]): by the names of the placeholders; those of a bank are its source, under ``source``.
        craft (dict | None): flags of ``tools/craft_attacks.py``, for a bank.
        robustness (dict | None): flags of ``tools/robustness.py``, for a row; others are not tested.
    """

    name: str
    seed: int
    folder: Path
    config: Config | None
    needs: dict[str, 'Job'] = field(default_factory=dict)
    craft: dict | None = None
    robustness: dict | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        if self.craft is not None:
            return ('craft',)
        return ('train', 'test', 'robustness') if self.robustness is not None else ('train',)

    def output(self, stage: str) -> Path:
        """Folder that a stage writes; reports of other settings have other folders."""
        name = f'robustness-{config_hash(self.robustness)[:6]}' if stage == 'robustness' else stage
        return self.folder / name

    def checkpoint(self) -> Path:
        """What the training wrote last."""
        written = (self.output('train') / 'last_checkpoint').read_text(encoding='utf-8').strip()
        return self.output('train') / Path(written).name

    def __str__(self) -> str:
        return f'{self.name}, seed {self.seed}'


@dataclass(frozen=True)
class Row:
    """A line of the table: one model, with several seeds."""

    name: str
    group: str
    paper: dict[str, float]
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Plan:
    """A study at one scale.

    Attributes:
        name (str): of the file.
        title, text (str): of the table.
        classes (tuple[str]): whose scores the table also shows.
        rows (tuple[Row]): in the table's order.
    """

    name: str
    title: str
    text: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]


def all_jobs(plans: Sequence[Plan]) -> list[Job]:
    """The jobs of several plans, each behind what it needs, none twice.

    Raises:
        PlanError: two plans ask for one model, tested in different ways.
    """
    found: dict[Path, Job] = {}
    asked = [job for plan in plans for row in plan.rows for job in row.jobs]
    for job in (job for it in asked for job in _with_needs(it)):
        known = found.get(job.folder)
        if known is None or known.robustness is None:
            found[job.folder] = job
        elif job.robustness not in (None, known.robustness):
            raise PlanError(f'{job} is to be tested in different ways: run these plans one after the other')
    return list(found.values())


def read_plans(
    paths: Sequence[str | Path],
    work_dir: str | Path,
    scale: str | None = None,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] = (),
) -> list[Plan]:
    """Several plans by :func:`read_plan`, of which only some rows are wanted.

    Raises:
        PlanError: also where no plan has one of these rows.
    """
    plans = [read_plan(path, work_dir, scale, seeds) for path in paths]
    if only:
        known = {row.name for plan in plans for row in plan.rows}
        if unknown := sorted(set(only) - known):
            raise PlanError(f'no plan has a row {", ".join(unknown)}; there are {", ".join(sorted(known))}')
        plans = [replace(plan, rows=tuple(row for row in plan.rows if row.name in only)) for plan in plans]
    return plans


def read_plan(
    path: str | Path, work_dir: str | Path, scale: str | None = None, seeds: Sequence[int] | None = None
) -> Plan:
    """Read a plan and the scale that it is run at.

    A plan is YAML with ``title``, ``text``, ``classes`` and ``rows``, each with a ``name``, a ``config`` and, if
    wanted, ``options`` (as in ``--cfg-options``, but any YAML), ``group`` and the ``paper``'s figures. A scale is
    YAML, too: ``seeds``, flags for ``robustness`` (a plan may have further ones), ``configs`` (name -> file, what rows
    call them), ``options`` of all rows, and ``before``: steps that options refer to as ``{NAME.checkpoint}`` or
    ``{NAME.folder}``, trained first, with seed 0 or, by ``each_seed: true``, with the row's. A step with ``craft:
    STEP`` makes an attack bank of that step's model. Files are relative to the YAML file that names them.

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
    _check_keys(content, PLAN_KEYS, {'title', 'rows'}, path)
    scale, scale_path = _read_scale(path, content, scale)
    robustness = {**scale.get('robustness', {}), **content.get('robustness', {})}
    maker = _JobMaker({**scale, 'robustness': robustness}, scale_path, work_dir)
    rows = []
    for entry in content['rows']:
        where = f'{path}, row {entry.get("name")!r}'
        _check_keys(entry, ROW_KEYS, {'name', 'config'}, where)
        jobs = tuple(maker.row(entry, seed, where, path.parent) for seed in seeds or maker.scale['seeds'])
        rows.append(Row(entry['name'], entry.get('group', ''), entry.get('paper', {}), jobs))
    _check_names(rows, path)
    return Plan(path.stem, content['title'], content.get('text', ''), tuple(content.get('classes', ())), tuple(rows))


class _JobMaker:
    """Makes the jobs of a plan at a scale."""

    def __init__(self, scale: Mapping, path: Path, work_dir: Path):
        self.scale = scale
        self.path = path
        self.work_dir = work_dir

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
        if 'craft' in entry:
            return self._bank(name, seed if entry.get('each_seed') else 0, entry, here)
        _check_keys(entry, STEP_KEYS, {'config'}, here)
        seed = seed if entry.get('each_seed') else 0
        return self._training(name, seed, self.path.parent / entry['config'], entry.get('options', {}), here)

    def _training(self, name, seed, file: Path, options: Mapping, where: str, robustness=None) -> Job:
        if not file.is_file():
            raise PlanError(f'{where}: config {file} does not exist')
        config = _read_config(file)
        try:
            config.merge_from_dict(dict(options))
        except (KeyError, TypeError, AssertionError) as error:
            raise PlanError(f'{where}: options do not fit {file}: {error}') from error
        needs = {key: self.step(key, seed, where) for key in _placeholders(options)}
        digest = config_hash([config.to_dict(), [need.folder.name for need in needs.values()]])
        folder = self.work_dir / f'{file.stem}-{digest[:8]}' / f'seed{seed}'
        return Job(name, seed, folder, config, needs, robustness=robustness)

    def _bank(self, name: str, seed: int, entry: Mapping, where: str) -> Job:
        flags = {key: value for key, value in entry.items() if key not in ('craft', 'each_seed')}
        source = self.step(entry['craft'], seed, where)
        digest = config_hash([source.folder.parent.name, flags])
        folder = self.work_dir / f'{_slug(name)}-{digest[:8]}' / f'seed{seed}'
        return Job(name, seed, folder, None, {'source': source}, craft=flags)


def resolve(value, job: Job):
    """Options with the placeholders replaced by the paths that the needed jobs left."""
    if isinstance(value, Mapping):
        return {key: resolve(item, job) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(resolve(item, job) for item in value)
    if not isinstance(value, str):
        return value
    return PLACEHOLDER.sub(lambda found: str(_left_by(job.needs[found[1]], found[2])), value)


def _left_by(job: Job, what: str) -> Path:
    return job.checkpoint() if what == 'checkpoint' else job.output(job.stages[0])


def _with_needs(job: Job) -> Iterator[Job]:
    for need in job.needs.values():
        yield from _with_needs(need)
    yield job


def _placeholders(value) -> list[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return list(dict.fromkeys(name for item in value for name in _placeholders(item)))
    return [found[1] for found in PLACEHOLDER.finditer(value)] if isinstance(value, str) else []


def _read_scale(path: Path, plan: Mapping, scale: str | None) -> tuple[Mapping, Path]:
    scale = scale or plan.get('scale')
    if scale is None:
        raise PlanError(
            f'{path} names no scale: give --scale NAME, a YAML file in scales/ beside it, or write scale: into it'
        )
    if isinstance(scale, Mapping):
        content, file = scale, path
    else:
        file = Path(scale) if str(scale).endswith(('.yaml', '.yml')) else path.parent / 'scales' / f'{scale}.yaml'
        content = _read_yaml(file)
    _check_keys(content, SCALE_KEYS, {'seeds'}, f'{file}, scale' if file == path else file)
    return content, file


def _read_config(file: Path) -> Config:
    """A config, without mmengine's word on every environment variable."""
    logging.disable(logging.INFO)
    try:
        return Config.fromfile(file)
    finally:
        logging.disable(logging.NOTSET)


def _read_yaml(path: Path) -> Mapping:
    if not path.is_file():
        raise PlanError(f'{path} does not exist')
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise PlanError(f'{path} is no YAML: {" ".join(str(error).split())}') from error
    if not isinstance(content, Mapping):
        raise PlanError(f'{path} must be a mapping of keys, not {type(content).__name__}')
    return content


def _check_keys(content, known: set[str], needed: set[str], where) -> None:
    if not isinstance(content, Mapping):
        raise PlanError(f'{where} must be a mapping of keys, not {type(content).__name__}')
    if missing := needed - set(content):
        raise PlanError(f'{where}: {", ".join(sorted(missing))} is missing')
    if unknown := set(content) - known:
        raise PlanError(f'{where}: unknown {", ".join(sorted(unknown))}; known are {", ".join(sorted(known))}')


def _check_names(rows: Sequence[Row], path: Path) -> None:
    names = [row.name for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PlanError(f'{path}: two rows are called {", ".join(twice)}')


def _slug(name: str) -> str:
    return re.sub(r'[^\w-]+', '_', name)
