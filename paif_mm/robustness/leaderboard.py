"""Many models in one table, those of which most is left first, from their reports."""

from collections.abc import Mapping

import numpy as np

from .cases import CORRUPTION
from .curves import draw_leaderboard
from .diagnostics import FAILED
from .report import WORST, leading, main_threat, radii, row_of
from .sections import Section, interval, number

#: Settings of an evaluation that figures depend on.
SETTINGS = ('suite', 'modality', 'eps', 'steps', 'queries', 'seed')


def leaderboard(reports: Mapping[str, Mapping]) -> Section:
    """The table of reports of the same images, attacks and settings.

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
    trouble = all(report.get('trouble') for report in reports.values())
    head = ['rank', 'model', *(f'{what}, {e * 255:.4g}/255' for what in (WORST, 'PGD-5') for e in eps), 'clean']
    head += ['mean corruption error'] if trouble else []
    head += ['masking', 'parameters, M', 'GFLOPs', 'training passes, M']
    rows = [[str(place + 1), name, *_cells(reports[name], eps, trouble)] for place, name in enumerate(order)]
    text = (
        f'{score} in percent on the same {len(first["images"])} images of {first["data"]["type"]} under the same '
        f'attacks (suite {first["settings"]["suite"]}), with 95 % intervals of the images. The order is that of the '
        'worst case. "≤": a check for gradient masking failed, so that the figure is an upper limit and the model '
        'comes after all others. Whether two models differ is said by the paired differences of '
        'tools/compare_reports.py, not by intervals that overlap.'
    )
    if first['constant']:
        value = number(first['constant']['figures']['all'][score])
        text += f' Calling every pixel {first["constant"]["answer"]!r} has {value}: what is not above that is nothing.'
    if plain := [name for name in order if not reports[name]['model']['pairs']]:
        text += f' Of one sensor alone, so that all of it is attacked: {", ".join(plain)}.'
    text += (
        ' GFLOPs: of one image, two operations per multiply-add. Training passes: forward and backward passes of '
        'single images by the config, millions; "-" where the config does not tell.'
    )
    return Section('Leaderboard', text, head, rows, 'leaderboard', sortable=True)


def ranking(reports: Mapping[str, Mapping]) -> list[str]:
    """Names of the models, the one of which most is left first."""

    def key(name: str) -> tuple:
        report = reports[name]
        left = [_value(_worst(report, eps), report) for eps in radii(report)]
        trouble = report.get('trouble')
        mean = [-trouble['mean']['value']] if trouble and trouble['mean']['value'] is not None else []
        return report['masking']['verdict'] != FAILED, *left, *mean, _value(report['rows'][0], report)

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
        one, other = (_attacks(r, reference, report) for r in (reference, report))
        different = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
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


def _attacks(report: Mapping, *both: Mapping) -> dict[str, dict]:
    """Key -> attack of the rows that both reports can have: without fusion, or of one sensor, there are fewer."""
    fused, pairs = (all(one['model'][key] for one in both) for key in ('fused', 'pairs'))
    return {
        row['key']: row['attack']
        for row in report['rows']
        if row['attack'] and (fused or row['kind'] != 'fusion')
        if pairs or (row['threat'] == 'both' and row['kind'] != CORRUPTION)
    }


def draw(reports: Mapping[str, Mapping]) -> str:
    """Every model's figures in a row, in the order of the table."""
    return draw_leaderboard({name: reports[name] for name in ranking(reports)})


def _cells(report: Mapping, eps: list[float], trouble: bool) -> list[str]:
    failed = report['masking']['verdict'] == FAILED
    clean = leading(report['rows'][0], report)
    cells = []
    for row in (*(_worst(report, e) for e in eps), *(row_of(report, 'pgd5', e, main_threat(report, e)) for e in eps)):
        text = interval(leading(row, report)) if row else '-'
        cells.append(f'≤ {text}' if failed and row else text)
    cells.append(interval(clean))
    if trouble:
        cells.append(interval(report['trouble']['mean']))
    cost = report.get('costs') or {}
    cells.append(report['masking']['verdict'])
    for key, unit in (('parameters', 1e6), ('flops', 1e9), ('training_passes', 1e6)):
        cells.append('-' if cost.get(key) is None else f'{cost[key] / unit:.4g}')
    return cells


def _worst(report: Mapping, eps: float) -> Mapping | None:
    """The worst case at a radius; what there is where the suite has a single attack."""
    threat = main_threat(report, eps)
    return row_of(report, WORST, eps, threat) or row_of(report, 'pgd5', eps, threat)


def _value(row: Mapping | None, report: Mapping) -> float:
    value = row and leading(row, report)['value']
    return -np.inf if value is None else value
