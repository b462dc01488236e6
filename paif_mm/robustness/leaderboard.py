"""Many models in one table, those of which most is left first, from their reports."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from paif_mm.attacks.adaptive import without_bpda

from .comparison import bpda_note, same_images
from .curves import draw_leaderboard
from .diagnostics import FAILED, SKIPPED
from .report import WORST, leading, main_threat, radii, row_of, threats_of
from .sections import Section, interval, number

NAMES = {WORST: WORST, 'pgd5': 'PGD-5'}  # of columns
#: Settings of an evaluation that figures depend on.
SETTINGS = ('suite', 'modality', 'eps', 'steps', 'queries', 'seed')


def leaderboard(reports: Mapping[str, Mapping]) -> list[Section]:
    """The table of reports of the same images, attacks and settings, a picture, and how to read both.

    Rows are in the order of the worst case (of PGD-5, where no report has one) at the smallest radius, then at the
    next; models whose gradients are masked, or were not checked, come after all others, as their figures are upper
    limits.

    Raises:
        ValueError: there are fewer than two, or they differ in what figures depend on; the message names the reports
            and the setting.
    """
    check_equal(reports)
    order = ranking(reports)
    first = reports[order[0]]
    score, columns = first['score'], columns_of(reports)
    shared = _shared_corruptions(reports)
    head = ['rank', 'model', *(f'{NAMES[what]}, {eps * 255:.4g}/255' for what, eps in columns), 'clean']
    head += ['mean corruption error'] if shared else []
    head += ['masking', 'parameters, M', 'GFLOPs', 'training passes, M']
    rows = [[str(place + 1), name, *_cells(reports[name], columns, shared)] for place, name in enumerate(order)]
    what = 'under real trouble'
    if columns:
        attack, eps = columns[0]
        what = f'{"in the worst case" if attack == WORST else "under PGD-5"} at {eps * 255:.4g}/255'
    text = (
        f'The model that keeps most {what} comes first. {score} in percent on the same {len(first["images"])} images '
        f'of {first["data"]["type"]}, suite {first["settings"]["suite"]}. A click on a column sorts by it.'
    )
    return [
        Section('Ranking', text, head, rows, sortable=True),
        *([Section('At a glance', 'Lines are 95 % intervals of the images.', key='picture')] if columns else []),
        Section('How to read it', '\n'.join(_notes(reports, order))),
    ]


def _notes(reports: Mapping[str, Mapping], order: list[str]) -> list[str]:
    first = reports[order[0]]
    lines = []
    if first['constant']:
        value = number(first['constant']['figures']['all'][first['score']])
        lines.append(f'Calling every pixel {first["constant"]["answer"]!r} has {value}: up to there nothing is left.')
    if masked := [name for name in order if reports[name]['masking']['verdict'] == FAILED]:
        lines.append(
            f'Of {", ".join(masked)} a check for gradient masking failed: the figures are upper limits (≤), so that '
            'these models come after all others.'
        )
    if unseen := [name for name in order if columns_of(reports) and reports[name]['masking']['verdict'] == SKIPPED]:
        lines.append(
            f'{", ".join(unseen)}: not checked for gradient masking (--diagnostics 0), so that the figures count as '
            'upper limits (≤), too.'
        )
    if plain := [name for name in order if not reports[name]['model']['pairs']]:
        lines.append(f'Of one sensor alone, so that all of it is attacked: {", ".join(plain)}.')
    if note := bpda_note(reports):
        lines.append(note)
    if shared := _shared_corruptions(reports):
        lines.append(f'The mean corruption error is over what all models met: {", ".join(shared)}.')
    threats = threats_of(first)
    if len(threats) > 1 and 'both' not in threats:
        lines.append(f'Of {", ".join(threats)}, which were attacked one at a time, the one that leaves least counts.')
    lines += [
        "In brackets are 95 % intervals of the images, in each report's own blocks. Whether two models differ is said "
        'by the paired differences of tools/compare_reports.py: models may differ although their intervals overlap.',
        'GFLOPs: of one image, two operations per multiply-add. Training passes: forward and backward passes of single '
        'images that the training took by the config; "-" where it does not tell.',
    ]
    return lines


def ranking(reports: Mapping[str, Mapping]) -> list[str]:
    """Names of the models, the one of which most is left first."""
    shared, columns = _shared_corruptions(reports), columns_of(reports)

    def key(name: str) -> tuple:
        report = reports[name]
        left = [_value(_row(report, *column), report) for column in columns if column[0] == columns[0][0]]
        mean = -_mean_error(report, shared)['value'] if shared else 0.0
        known = not columns or not _is_limit(report)
        return known, *left, mean, _value(report['rows'][0], report)

    return sorted(reports, key=key, reverse=True)


def columns_of(reports: Mapping[str, Mapping]) -> list[tuple[str, float]]:
    """Attacks and radii that the table has columns of: worst cases, then PGD-5, at the suite's radii.

    Radii that only further attacks have, or some of the reports, are no ground for an order.
    """
    first = next(iter(reports.values()))
    found = {
        what: [eps for eps in radii(first) if all(_row(report, what, eps) for report in reports.values())]
        for what in (WORST, 'pgd5')
    }
    worst = [eps for eps in found[WORST] if eps in found['pgd5'] or not found['pgd5']]
    return [*((WORST, eps) for eps in worst), *(('pgd5', eps) for eps in found['pgd5'])]


def _row(report: Mapping, what: str, eps: float) -> Mapping | None:
    return row_of(report, what, eps, main_threat(report, eps))


def _is_limit(report: Mapping) -> bool:
    """Whether figures under attack are upper limits: gradients are masked, or nobody looked."""
    return report['masking']['verdict'] in (FAILED, SKIPPED)


def check_equal(reports: Mapping[str, Mapping]) -> None:
    """Raise a ValueError where figures of two reports can't stand in one table."""
    if len(reports) < 2:
        raise ValueError('a leaderboard needs at least two reports')
    for (first, reference), (name, report) in combinations(reports.items(), 2):
        for key in ('score', 'classes'):
            _same(key, first, reference[key], name, report[key])
        if not same_images(reference, report):
            raise ValueError(
                f'{name} and {first} differ in images ({len(report["images"])} and {len(reference["images"])}, not the '
                'same scenes or not the same files): test them on one data set with one --limit'
            )
        for key in SETTINGS:
            _same(f'--{key}', first, reference['settings'].get(key), name, report['settings'].get(key))
        different = _different_attacks(reference, report)
        if different:
            raise ValueError(
                f'{name} and {first} differ in attacks ({", ".join(different[:3])}{", ..." if different[3:] else ""}): '
                'test them with the same ones'
            )


def _different_attacks(one: Mapping, other: Mapping) -> list[str]:
    """Keys of attacks that one report has and the other one has not, or as others.

    A suite has fewer for a model without fusion, or of one sensor; what was given beside it is the same for all.
    """
    attacks = [{row['key']: without_bpda(row['attack']) for row in report['rows']} for report in (one, other)]
    if all(one['model'][kind] == other['model'][kind] for kind in ('fused', 'pairs')):
        keys = {*attacks[0], *attacks[1]}
    else:
        further = {row['key'] for report in (one, other) for row in report['rows'] if row.get('further')}
        keys = {*attacks[0]} & {*attacks[1]} | further
    return sorted(key for key in keys if attacks[0].get(key, 'none') != attacks[1].get(key, 'none'))


def _same(what: str, first: str, expected, name: str, found) -> None:
    if found != expected:
        raise ValueError(f'{name} and {first} differ in {what} ({_said(found)} and {_said(expected)}): make them alike')


def _said(value) -> str:
    text = ' '.join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def draw(reports: Mapping[str, Mapping]) -> str:
    """Every model's figures in a row, in the order of the table."""
    panels = list(dict.fromkeys(eps for _, eps in columns_of(reports)))
    return draw_leaderboard({name: reports[name] for name in ranking(reports)}, panels)


def _shared_corruptions(reports: Mapping[str, Mapping]) -> list[str]:
    """Those that all reports have; a model of visible images meets fewer."""
    tables = [(report.get('trouble') or {}).get('corruptions', {}) for report in reports.values()]
    return [name for name in tables[0] if all(table.get(name, {}).get('value') is not None for table in tables)]


def _mean_error(report: Mapping, shared: list[str]) -> Mapping:
    """With an interval where the report has no other corruptions."""
    trouble = report['trouble']
    if set(trouble['corruptions']) == set(shared):
        return trouble['mean']
    return {'value': float(np.mean([trouble['corruptions'][name]['value'] for name in shared])), 'low': None}


def _cells(report: Mapping, columns: Sequence[tuple[str, float]], shared: list[str]) -> list[str]:
    limit, clean = '≤ ' if _is_limit(report) else '', leading(report['rows'][0], report)
    cells = [limit + interval(leading(_row(report, *column), report)) for column in columns]
    cells.append(interval(clean))
    if shared:
        cells.append(interval(_mean_error(report, shared)))
    cost = report.get('costs') or {}
    verdict = report['masking']['verdict']
    cells.append('not checked' if verdict == SKIPPED else verdict)
    for key, unit in (('parameters', 1e6), ('flops', 1e9), ('training_passes', 1e6)):
        cells.append('-' if cost.get(key) is None else f'{cost[key] / unit:.3g}')
    return cells


def _value(row: Mapping | None, report: Mapping) -> float:
    value = row and leading(row, report)['value']
    return -np.inf if value is None else value
