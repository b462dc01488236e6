"""Many models in one table, those of which most is left first, from their reports."""

from collections.abc import Mapping

import numpy as np

from .curves import draw_leaderboard
from .diagnostics import FAILED
from .report import WORST, leading, main_threat, radii, row_of, threats_of
from .sections import Section, interval, number

#: Settings of an evaluation that figures depend on.
SETTINGS = ('suite', 'modality', 'eps', 'steps', 'queries', 'seed')


def leaderboard(reports: Mapping[str, Mapping]) -> list[Section]:
    """The table of reports of the same images, attacks and settings, a picture, and how to read both.

    Rows are in the order of the worst case at the smallest radius, then at the next; models whose gradients are masked
    come after all others, as their figures are upper limits.

    Raises:
        ValueError: there are fewer than two, or they differ in what figures depend on; the message names the reports
            and the setting.
    """
    check_equal(reports)
    order = ranking(reports)
    first = reports[order[0]]
    score, eps = first['score'], radii(first)
    shared = _shared_corruptions(reports)
    head = ['rank', 'model', *(f'{what}, {e * 255:.4g}/255' for what in (WORST, 'PGD-5') for e in eps), 'clean']
    head += ['mean corruption error'] if shared else []
    head += ['masking', 'parameters, M', 'GFLOPs', 'training passes, M']
    rows = [[str(place + 1), name, *_cells(reports[name], eps, shared)] for place, name in enumerate(order)]
    what = f'in the worst case at {eps[0] * 255:.4g}/255' if eps else 'under real trouble'
    text = (
        f'The model that keeps most {what} comes first. {score} in percent on the same {len(first["images"])} images '
        f'of {first["data"]["type"]}, suite {first["settings"]["suite"]}. A click on a column sorts by it.'
    )
    return [
        Section('Ranking', text, head, rows, sortable=True),
        *([Section('At a glance', 'Lines are 95 % intervals of the images.', key='picture')] if eps else []),
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
    if plain := [name for name in order if not reports[name]['model']['pairs']]:
        lines.append(f'Of one sensor alone, so that all of it is attacked: {", ".join(plain)}.')
    if shared := _shared_corruptions(reports):
        lines.append(f'The mean corruption error is that of {len(shared)} corruptions, which all models met.')
    threats = threats_of(first)
    if len(threats) > 1 and 'both' not in threats:
        lines.append(f'Of {", ".join(threats)}, which were attacked one at a time, the one that leaves least counts.')
    lines += [
        'In brackets are 95 % intervals of the images. Whether two models differ is said by the paired differences of '
        'tools/compare_reports.py: models may differ although their intervals overlap.',
        'GFLOPs: of one image, two operations per multiply-add. Training passes: forward and backward passes of single '
        'images that the training took by the config; "-" where it does not tell.',
    ]
    return lines


def ranking(reports: Mapping[str, Mapping]) -> list[str]:
    """Names of the models, the one of which most is left first."""

    shared = _shared_corruptions(reports)

    def key(name: str) -> tuple:
        report = reports[name]
        left = [_value(_worst(report, eps), report) for eps in radii(report)]
        mean = -_mean_error(report, shared)['value'] if shared else 0.0
        return report['masking']['verdict'] != FAILED, *left, mean, _value(report['rows'][0], report)

    return sorted(reports, key=key, reverse=True)


def check_equal(reports: Mapping[str, Mapping]) -> None:
    """Raise a ValueError where figures of two reports can't stand in one table."""
    if len(reports) < 2:
        raise ValueError('a leaderboard needs at least two reports')
    (first, reference), *others = reports.items()
    for name, report in others:
        for key in ('score', 'classes'):
            _same(key, first, reference[key], name, report[key])
        if set(report['data']['scenes']) != set(reference['data']['scenes']):
            raise ValueError(
                f'{name} and {first} differ in images ({len(report["images"])} and {len(reference["images"])}, not the '
                'same scenes): test them on one data set with one --limit'
            )
        for key in SETTINGS:
            _same(f'--{key}', first, reference['settings'].get(key), name, report['settings'].get(key))
        one, other = ({row['key']: row['attack'] for row in r['rows']} for r in (reference, report))
        alike = all(reference['model'][kind] == report['model'][kind] for kind in ('fused', 'pairs'))
        keys = {*one, *other} if alike else {*one} & {*other}  # without fusion, or of one sensor, there are fewer
        different = sorted(key for key in keys if one.get(key, 'none') != other.get(key, 'none'))
        if different:
            raise ValueError(
                f'{name} and {first} differ in attacks ({", ".join(different[:3])}{", ..." if different[3:] else ""}): '
                'test them with the same ones'
            )


def _same(what: str, first: str, expected, name: str, found) -> None:
    if found != expected:
        raise ValueError(f'{name} and {first} differ in {what} ({_said(found)} and {_said(expected)}): make them alike')


def _said(value) -> str:
    text = ' '.join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def draw(reports: Mapping[str, Mapping]) -> str:
    """Every model's figures in a row, in the order of the table."""
    return draw_leaderboard({name: reports[name] for name in ranking(reports)})


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


def _cells(report: Mapping, eps: list[float], shared: list[str]) -> list[str]:
    failed = report['masking']['verdict'] == FAILED
    clean = leading(report['rows'][0], report)
    cells = []
    for row in (*(_worst(report, e) for e in eps), *(row_of(report, 'pgd5', e, main_threat(report, e)) for e in eps)):
        text = interval(leading(row, report)) if row else '-'
        cells.append(f'≤ {text}' if failed and row else text)
    cells.append(interval(clean))
    if shared:
        cells.append(interval(_mean_error(report, shared)))
    cost = report.get('costs') or {}
    cells.append(report['masking']['verdict'])
    for key, unit in (('parameters', 1e6), ('flops', 1e9), ('training_passes', 1e6)):
        cells.append('-' if cost.get(key) is None else f'{cost[key] / unit:.3g}')
    return cells


def _worst(report: Mapping, eps: float) -> Mapping | None:
    """The worst case at a radius; what there is where the suite has a single attack."""
    threat = main_threat(report, eps)
    return row_of(report, WORST, eps, threat) or row_of(report, 'pgd5', eps, threat)


def _value(row: Mapping | None, report: Mapping) -> float:
    value = row and leading(row, report)['value']
    return -np.inf if value is None else value
