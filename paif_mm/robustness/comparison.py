"""Several models side by side, from their reports."""

from collections.abc import Mapping

import numpy as np

from .report import leading
from .sections import Section, interval, title
from .statistics import Bootstrap


def compare(reports: Mapping[str, Mapping]) -> list[Section]:
    """Sections of what the reports have in common.

    Args:
        reports: name of the model -> report; the first one is what the others are held against.

    Raises:
        ValueError: there are fewer than two, or they are of different images, scores or classes.
    """
    (first, reference), *others = reports.items()
    if not others:
        raise ValueError('a comparison needs at least two reports')
    for name, report in others:
        for what, same in (
            ('score', report['score'] == reference['score']),
            ('images', report['data']['hash'] == reference['data']['hash']),
            ('classes', report['classes'] == reference['classes']),
        ):
            if not same:
                raise ValueError(f"{name} and {first} can't be compared: they were tested on other {what}")
    shared = [row['key'] for row in reference['rows'] if all(_find(r, row['key']) for r in reports.values())]
    rows = {key: {name: _find(report, key) for name, report in reports.items()} for key in shared}
    left_out = sorted({row['key'] for report in reports.values() for row in report['rows']} - set(shared))
    sections = [_figures(reports, rows, left_out), _differences(reports, rows)]
    return [*sections, _masking(reports)]


def _figures(reports: Mapping, rows: Mapping, left_out: list[str]) -> Section:
    score = next(iter(reports.values()))['score']
    table = [
        [title(next(iter(found.values()))), *(interval(leading(found[name], reports[name])) for name in reports)]
        for found in rows.values()
    ]
    text = f'{score} in percent on the same {len(next(iter(reports.values()))["images"])} images, with 95 % intervals.'
    different = [found for key, found in rows.items() if not _same_attack(found)]
    if different:
        names = ', '.join(title(next(iter(found.values()))) for found in different)
        text += f' Not the same attacks by these names, so that rows say little: {names}.'
    if left_out:
        text += f' Left out, as not all reports have them: {", ".join(left_out)}.'
    return Section('Robustness', text, ['attack', *reports], table, 'comparison')


def _differences(reports: Mapping, rows: Mapping) -> Section:
    """Image by image: how much more than the first model's every other one's prediction is worth."""
    first, *others = reports
    reference = reports[first]
    bootstrap = Bootstrap(len(reference['images']), 1000)
    table = []
    for found in rows.values():
        base = _worths(found[first])
        cells = [interval(bootstrap.mean(100 * (_worths(found[name]) - base)), 1) for name in others]
        table.append([title(found[first]), *cells])
    what = {'mIoU': 'accuracy of its pixels', 'AP50': 'AP50 by itself'}[reference['score']]
    text = (
        f'Each image against the same image under {first}: mean difference of the {what}, in points, with 95 % '
        'intervals. An interval without 0 says that the models differ on such images.'
    )
    return Section(f'Difference to {first}', text, ['attack', *others], table)


def _masking(reports: Mapping) -> Section:
    checks = list(dict.fromkeys(f['check'] for report in reports.values() for f in report['masking']['findings']))
    table = []
    for check in checks:
        verdicts = [
            next((f['verdict'] for f in report['masking']['findings'] if f['check'] == check), '-')
            for report in reports.values()
        ]
        table.append([check, *verdicts])
    text = 'A model that fails a check may only hide its gradients: its row above is an upper limit.'
    return Section('Gradient masking', text, ['check', *reports], table)


def _same_attack(found: Mapping[str, Mapping]) -> bool:
    first, *others = found.values()
    keys = ('attack', 'members')
    return all(row.get(key) == first.get(key) for row in others for key in keys)


def _worths(row: Mapping) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in row['per_image']], np.float64)


def _find(report: Mapping, key: str) -> Mapping | None:
    return next((row for row in report['rows'] if row['key'] == key), None)
