"""The table of a study: every figure of every row and seed (CSV), and means and spreads (Markdown)."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paif_mm.robustness.report import WORST

from .plan import Job, Plan, Row
from .schedule import error_of, finished

CLEAN = 'clean'
EVERY = 'clean, all'  # the test on all images; robustness is measured on fewer
NOT_RUN = 'not run'
BACKGROUND = {'unlabeled', 'background'}
OBJECTS = 'mIoU_objects'  # of all classes but these, whose share of an mIoU over few classes is large
SIGNS = "'>' is a difference larger than the seeds' spread, '=' one that is not; one seed has no spread to go by."
COCO = {'coco/bbox_mAP': 'mAP', 'coco/bbox_mAP_50': 'AP50'}  # what reports call them


@dataclass(frozen=True)
class Result:
    """What a row has with one seed.

    Attributes:
        seed (int): the seed.
        status (str): ``done``, ``failed: ...``, ``unfinished: ...`` or :data:`NOT_RUN`.
        figures (dict): (test, figure) -> value; tests are :data:`EVERY` and the keys of the report, as ``pgd5-4``.
        score (str): the leading figure's name.
        images (int): of the report.
        folder (str): where it is.
    """

    seed: int
    status: str
    figures: dict[tuple[str, str], float]
    score: str
    images: int
    folder: str


def collect(row: Row) -> list[Result]:
    """The results of a row, one for each seed."""
    return [_result(job) for job in row.jobs]


def csv_of(plan: Plan) -> str:
    """One line per row and seed, one column per test and figure, in percent."""
    found = [(row, result) for row in plan.rows for result in collect(row)]
    columns = list(dict.fromkeys(key for _, result in found for key in result.figures))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['row', 'group', 'seed', 'status', 'folder', *(f'{test}: {name}' for test, name in columns)])
    for row, result in found:
        values = [f'{result.figures[key]:.4f}' if key in result.figures else '' for key in columns]
        writer.writerow([row.name, row.group, result.seed, result.status, result.folder, *values])
    return text.getvalue()


def markdown(plan: Plan) -> str:
    """Title, table, scores of chosen classes, orders held against the paper's, and what failed."""
    results = {row.name: collect(row) for row in plan.rows}
    absent = [name for name, found in results.items() if all(result.status == NOT_RUN for result in found)]
    plan = replace(plan, rows=tuple(row for row in plan.rows if row.name not in absent))
    tests = shown_tests(results)
    parts = [f'# {plan.title}', plan.text.strip(), _legend(results)]
    if plan.rows:
        head = ['row', *map(label, tests), *(f'paper: {label(test)}' for test in _paper_tests(plan))]
        parts.append(_table(head, _main_rows(plan, results, tests)))
    if (shown := _shown_classes(plan, results)) and tests:
        head = [' / '.join(shown), *map(label, tests)]
        parts.append(_table(head, [[row.name, *_cells(results[row.name], tests, shown.values())] for row in plan.rows]))
    if lines := orders(plan, results):
        parts += ['\n'.join(f'- {line}' for line in lines), SIGNS]
    parts.append(_failures(plan, results))
    if absent:
        parts.append(f'Not run: {", ".join(absent)}.')
    return '\n\n'.join(part for part in parts if part) + '\n'


def shown_tests(results: Mapping[str, Sequence[Result]]) -> list[str]:
    """Tests of the Markdown table: clean ones, PGD-5 and the worst case, which every report of a suite has."""
    keys = list(dict.fromkeys(test for found in results.values() for result in found for test, _ in result.figures))
    return [key for key in keys if key in (EVERY, CLEAN) or key.startswith(('pgd5-', WORST))]


def label(test: str) -> str:
    """'pgd5-4' -> 'PGD-5, 4/255'."""
    attack, _, eps = test.rpartition('-')
    return f'{attack.replace("pgd5", "PGD-5")}, {eps}/255' if attack else test


def mean_and_spread(results: Iterable[Result], test: str, figure: str | None = None) -> tuple[float, float, int] | None:
    """Mean, sample standard deviation (0 for one seed) and number of seeds; None where no seed has it."""
    values = [
        result.figures[key]
        for result in results
        if result.status == 'done' and (key := (test, figure or result.score)) in result.figures
    ]
    values = [value for value in values if not np.isnan(value)]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, len(values)


def orders(plan: Plan, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """For every test that the paper has figures of: its order of the rows, and ours under it and in the worst case."""
    lines = []
    for group in dict.fromkeys(row.group for row in plan.rows):
        rows = [row for row in plan.rows if row.group == group]
        for test in dict.fromkeys(test for row in rows for test in row.paper):
            known = [row for row in rows if test in row.paper]
            if len(known) < 2:
                continue
            theirs = sorted(known, key=lambda row: -row.paper[test])
            worst = test.replace('pgd5', WORST)
            ours = {key: _order(known, results, key) for key in (test, worst)}
            if not ours[test]:
                continue
            what = f'{group}, {label(test)}' if group else label(test)
            here = '; '.join(f'{label(key)} here: {order}' for key, order in ours.items() if order)
            lines.append(f'{what}, paper: {" > ".join(row.name for row in theirs)}; {here}')
    return lines


def _order(rows: Sequence[Row], results, test: str) -> str | None:
    """'A > B = C', where = says that the seeds' spreads are larger than the difference."""
    found = {row.name: mean_and_spread(results[row.name], test) for row in rows}
    if any(value is None for value in found.values()):
        return None
    names = sorted(found, key=lambda name: -found[name][0])
    text = names[0]
    for before, name in zip(names, names[1:], strict=False):
        spread = max(found[before][1], found[name][1])
        text += f' {"=" if found[before][0] - found[name][0] <= spread else ">"} {name}'
    return text


def _result(job: Job) -> Result:
    figures, score, images = {}, '', 0
    report = job.output('robustness') / 'report.json'
    if 'robustness' in finished(job) and report.is_file():
        content = json.loads(report.read_text(encoding='utf-8'))
        score, images = content['score'], len(content['images'])
        if 'test' in finished(job):
            figures.update(_test_figures(job))
        for row in content['rows']:
            fused = {f'fused/{name}': value for name, value in row.get('fused', {}).items()}
            for name, value in {**row['figures']['all'], **fused}.items():
                figures[row['key'], name] = value['value'] if value['value'] is not None else float('nan')
        figures.update(_means_over_objects(figures))
    return Result(job.seed, _status(job), figures, score, images, str(job.folder))


def _status(job: Job) -> str:
    left = [stage for stage in job.stages if stage not in finished(job)]
    if not left:
        return 'done'
    if error := error_of(job):
        return f'failed: {error}'
    return NOT_RUN if len(left) == len(job.stages) else f'unfinished: {", ".join(left)} left'


def _test_figures(job: Job) -> dict[tuple[str, str], float]:
    """Of the last clean test, in percent and under the names that reports use."""
    newest = max(job.output('test').glob('*/results.json'), key=lambda path: path.stat().st_mtime)
    metrics = json.loads(newest.read_text(encoding='utf-8'))['results']['clean']['metrics']
    of_boxes = {COCO[name]: 100 * value for name, value in metrics.items() if name in COCO}
    of_pixels = {name: value for name, value in metrics.items() if name.startswith(('mIoU', 'aAcc', 'IoU/'))}
    return {(EVERY, name): value for name, value in {**of_boxes, **of_pixels}.items()}


def _means_over_objects(figures: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """:data:`OBJECTS` of each test with a background class, over the other classes that occur."""
    means = {}
    for test in dict.fromkeys(test for test, _ in figures):
        classes = {name: value for (key, name), value in figures.items() if key == test and name.startswith('IoU/')}
        objects = [value for name, value in classes.items() if name.removeprefix('IoU/') not in BACKGROUND]
        if len(objects) < len(classes) and not np.isnan(objects).all():
            means[test, OBJECTS] = float(np.nanmean(objects))
    return means


def _legend(results) -> str:
    found = [result for several in results.values() for result in several if result.status == 'done']
    if not found:
        return ''
    seeds = max(len([r for r in several if r.status == 'done']) for several in results.values())
    spread = f', mean ± standard deviation of {seeds} seeds' if seeds > 1 else ''
    convention = ' (over the classes that occur; mIoU_paper, over all, is in the CSV)'
    score = found[0].score + (convention if found[0].score == 'mIoU' else '')
    text = f'{score} in percent{spread}. '
    text += f"'{EVERY}' is the whole test set; all other columns are the same {found[0].images} images."
    objects = any(figure == OBJECTS for result in found for _, figure in result.figures)
    return text + " 'objects' is the mean IoU of all classes but the background." if objects else text


def _main_rows(plan: Plan, results, tests) -> list[list[str]]:
    rows = []
    for row in plan.rows:
        cells = [_cell(mean_and_spread(results[row.name], test)) for test in tests]
        paper = [f'{row.paper[test]:g}' if test in row.paper else '' for test in _paper_tests(plan)]
        rows.append([row.name, *cells, *paper])
    return rows


def _shown_classes(plan: Plan, results) -> dict[str, str]:
    """Title -> figure: the mean over the objects, where it is known, and the plan's classes."""
    done = [result for found in results.values() for result in found if result.status == 'done']
    objects = {'objects': OBJECTS} if any(figure == OBJECTS for result in done for _, figure in result.figures) else {}
    prefix = 'AP50' if any(result.score == 'AP50' for result in done) else 'IoU'
    return {**objects, **{name: f'{prefix}/{name}' for name in plan.classes}}


def _cells(found: Sequence[Result], tests: Iterable[str], figures: Collection[str]) -> list[str]:
    return [' / '.join(_cell(mean_and_spread(found, test, figure)) for figure in figures) for test in tests]


def _paper_tests(plan: Plan) -> list[str]:
    return list(dict.fromkeys(test for row in plan.rows for test in row.paper))


def _cell(value: tuple[float, float, int] | None) -> str:
    if value is None:
        return '-'
    mean, spread, seeds = value
    return f'{mean:.1f} ± {spread:.1f}' if seeds > 1 else f'{mean:.1f}'


def _failures(plan: Plan, results) -> str:
    lines = [
        f'- {row.name}, seed {result.seed}: {result.status}'
        for row in plan.rows
        for result in results[row.name]
        if result.status != 'done'
    ]
    return 'Not in the means:\n\n' + '\n'.join(lines) if lines else ''


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
