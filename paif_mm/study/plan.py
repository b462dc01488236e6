"""What a study is made of: plans of rows, rows of jobs, and jobs that need other jobs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from paif_mm.files import config_hash

#: '{T.checkpoint}' or '{HDS search.folder}' in an option: what another step of the plan left.
PLACEHOLDER = re.compile(r'\{([^{}.]+)\.(checkpoint|folder)\}')


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
        name (str): of the file and its scale.
        title, text (str): of the table.
        classes (tuple[str]): whose scores the table also shows.
        rows (tuple[Row]): in the table's order.
    """

    name: str
    title: str
    text: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]


def all_jobs(plans: Sequence[Plan], only: Sequence[str] = ()) -> list[Job]:
    """The jobs of several plans, each behind what it needs, none twice.

    Args:
        plans: whose jobs.
        only: names of rows; all by default.

    Raises:
        PlanError: no plan has one of these rows, or two plans ask for one model, tested in different ways.
    """
    rows = [row for plan in plans for row in plan.rows]
    if unknown := sorted(set(only) - {row.name for row in rows}):
        known = ', '.join(sorted({row.name for row in rows}))
        raise PlanError(f'no plan has a row {", ".join(unknown)}; there are {known}')
    found: dict[Path, Job] = {}
    asked = [job for row in rows for job in row.jobs if row.name in only or not only]
    for job in (job for it in asked for job in _with_needs(it)):
        known = found.get(job.folder)
        if known is None or known.robustness is None:
            found[job.folder] = job
        elif job.robustness not in (None, known.robustness):
            raise PlanError(f'{job} is to be tested in different ways: run these plans one after the other')
    return list(found.values())


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
