"""Plots of reports, as SVG that stands by itself inside a page."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from .cases import SPLITS, degree_of, split_name
from .report import WORST, leading, main_threat, radii, row_of
from .smallest_radius import fallen_at, set_apart

#: Curves beyond the tenth are dashed, as colours come again.
CYCLE = mpl.cycler(linestyle=['-', '--']) * mpl.rcParamsDefault['axes.prop_cycle']
STYLE = {'svg.fonttype': 'none', 'font.size': 9, 'axes.spines.top': False, 'axes.spines.right': False}
STYLE |= {'axes.prop_cycle': CYCLE}


def draw_curves(report: Mapping) -> str:
    """The leading figure against the radius: a curve per attack on both modalities (L-inf), the worst case with its
    confidence band; and the same for each threat under the strongest attack, where there are several."""
    if not radii(report):
        return ''
    panels = [_of_attacks(report)]
    threats = [threat for threat in ('ir', 'vis') if any(row['threat'] == threat for row in _within_radii(report))]
    if threats:
        panels.append(_of_threats(report, threats))
    return _draw(report, panels, 'radius, /255')


def draw_splits(report: Mapping) -> str:
    """The leading figure against infrared's share of one budget, a curve per attack and radius."""
    lines = {}
    for row in _within_radii(report):
        share = next((s for s in SPLITS if split_name(s) == row['threat']), None)
        if share is not None:
            lines.setdefault(f'{row["name"]} at {row["eps"] * 255:.4g}/255', []).append((100 * share, row))
    panel = {
        'title': 'one budget, split',
        'lines': {name: sorted(points, key=_first) for name, points in lines.items()},
    }
    return _draw(report, [panel], "infrared's share of the radius, %")


def draw_corruptions(report: Mapping) -> str:
    """The leading figure against the severity: a curve per corruption, a panel per family."""
    clean, families = report['rows'][0], {}
    known = report['trouble']['family'] if report.get('trouble') else {}
    for row in report['rows']:
        name, severity = degree_of(row['name'], row['attack'] or {}) or (None, None)
        if severity is not None:
            lines = families.setdefault(known.get(name, 'corruptions'), {})
            lines.setdefault(name, [(0, clean)]).append((severity, row))
    panels = [{'title': family, 'lines': lines} for family, lines in families.items()]
    return _draw(report, panels, 'severity') if panels else ''


def draw_smallest_radius(report: Mapping) -> str:
    """The share of images that have fallen against the radius, a panel for each norm, a curve for each share; of
    searches that found any."""
    found = [one for one in report.get('smallest_radius') or () if np.isfinite(fallen_at(one)).any()]
    if not found:
        return ''
    norms = list(dict.fromkeys(one['norm'] for one in found))
    with mpl.rc_context(STYLE | {'svg.hashsalt': 'smallest radius'}):
        figure = Figure(figsize=(5 * len(norms), 3), layout='constrained')
        for axis, norm in zip(figure.subplots(1, len(norms), squeeze=False)[0], norms, strict=True):
            scale = 255 if norm == 'linf' else 1
            for one in (one for one in found if one['norm'] == norm):
                radii = np.sort(fallen_at(one)) * scale
                fallen = radii[np.isfinite(radii)]
                shares = 100 * np.arange(len(fallen) + 1) / max(len(radii), 1)
                label = f'{one["share"] * 100:g} % of the pixels wrong'
                label += set_apart(one)
                axis.step([0.0, *fallen], shares, where='post', label=label)
            axis.set_title('smallest radius')
            _finish(axis, 'L-inf, /255' if norm == 'linf' else 'L2, [0, 1] units', 'images that have fallen, %')
            axis.set_ylim(-2, 102)
        return _svg(figure)


def draw_masking(report: Mapping) -> str:
    """The loss against the steps of PGD, under the first threat that was looked at."""
    found = next((finding for finding in report['masking']['findings'] if 'loss' in finding['figures']), None)
    if found is None:
        return ''
    figures = found['figures']
    with mpl.rc_context(STYLE | {'svg.hashsalt': 'masking'}):
        figure = Figure(figsize=(4.5, 2.6), layout='constrained')
        axis = figure.subplots()
        axis.plot(figures['steps'], figures['loss'], marker='o')
        axis.set_xlabel('steps of PGD')
        axis.set_ylabel('mean loss')
        axis.set_title(found['check'])
        return _svg(figure)


def draw_comparison(reports: Mapping[str, Mapping]) -> str:
    """Model -> report: the leading figure under PGD-5 (dashed) and in the worst case (with its band)."""
    score = next(iter(reports.values()))['score']
    with mpl.rc_context(STYLE | {'svg.hashsalt': 'comparison'}):
        figure = Figure(figsize=(7, 4), layout='constrained')
        axis = figure.subplots()
        for place, (name, report) in enumerate(reports.items()):
            weak, worst = (_against_radius(report, attack) for attack in ('pgd5', WORST))
            colour = f'C{place}'
            if len(worst) > 1:
                _line(axis, worst, report, name, color=colour, marker='o', band=True)
            if len(weak) > 1:
                label = f'{name}, PGD-5' if len(worst) > 1 else f'{name} (PGD-5)'
                _line(axis, weak, report, label, color=colour, marker='.', linestyle='--')
        _finish(axis, 'radius, /255', f'{score}, %')
        return _svg(figure)


def draw_leaderboard(reports: Mapping[str, Mapping], panels: Sequence[float]) -> str:
    """A line per model, the first one on top: clean, under PGD-5 and in the worst case, a panel per radius."""
    first = next(iter(reports.values()))
    if not panels:
        return ''
    places = range(len(reports), 0, -1)
    with mpl.rc_context(STYLE | {'svg.hashsalt': 'leaderboard'}):
        figure = Figure(figsize=(5.5 * len(panels) + 1, 1.4 + 0.34 * len(reports)), layout='constrained')
        for axis, eps in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True):
            for place, report in zip(places, reports.values(), strict=True):
                _row_of_figures(axis, place, report, eps)
            if first['constant']:
                blind = first['constant']['figures']['all'][first['score']]['value']
                axis.axvline(blind or 0.0, color='grey', linestyle=':', label='constant answer')
            axis.set_title(f'{eps * 255:.4g}/255')
            axis.set_xlabel(f'{first["score"]}, %')
            axis.set_yticks(list(places), list(reports))
            axis.set_xlim(left=0)
            axis.grid(axis='x', alpha=0.25)
        handles = dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
        axis.legend(handles.values(), handles, frameon=False, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
        return _svg(figure)


def _row_of_figures(axis, place: int, report: Mapping, eps: float) -> None:
    threat = main_threat(report, eps)
    weak = row_of(report, 'pgd5', eps, threat)
    looks = (
        ('clean', report['rows'][0], {'marker': 'o', 'markerfacecolor': 'white', 'color': 'C7'}),
        ('PGD-5', weak, {'marker': '|', 'markersize': 9, 'color': 'C1'}),
        ('worst case', row_of(report, WORST, eps, threat), {'marker': 'o', 'color': 'black'}),
    )
    for (label, row, look), lift in zip(looks, (0.2, 0.0, -0.2), strict=True):
        if row is None:
            continue
        values, height = leading(row, report), place + lift  # one above the other, as intervals overlap
        axis.plot(_value(row, report), height, linestyle='', label=label, **look)
        if values['low'] is not None:
            axis.plot([values['low'], values['high']], [height, height], color=look['color'], linewidth=1)


def _of_attacks(report: Mapping) -> dict:
    names = dict.fromkeys(row['name'] for row in _within_radii(report))
    lines = {name: _against_radius(report, name) for name in names}
    threat = main_threat(report)
    title = {'both': 'both modalities'}.get(threat, threat) if report['model']['pairs'] else 'attacks'
    return {'title': title, 'lines': lines}


def _of_threats(report: Mapping, threats: Sequence[str]) -> dict:
    """Of the attack that every threat has, the one of most effect on both."""
    shared = [
        name
        for name in dict.fromkeys(row['name'] for row in report['rows'] if row['kind'] == 'gradient')
        if all(row_of(report, name, eps, threat) for eps in radii(report) for threat in (*threats, 'both'))
    ]
    if not shared:
        shared = [next(row['name'] for row in _within_radii(report) if row['threat'] in threats)]
    largest = radii(report)[-1]
    best = min(shared, key=lambda name: _value(row_of(report, name, largest) or report['rows'][0], report))
    lines = {threat: _against_radius(report, best, threat) for threat in (*threats, 'both')}
    return {'title': f'{best}, by modality', 'lines': lines}


def _within_radii(report: Mapping) -> list[Mapping]:
    """Rows of attacks within an L-inf radius."""
    return [row for row in report['rows'] if row['eps'] is not None and row['norm'] == 'linf']


def _against_radius(report: Mapping, name: str, threat: str | None = None) -> list[tuple[float, Mapping]]:
    rows = [(eps, row_of(report, name, eps, threat)) for eps in radii(report)]
    return [(0.0, report['rows'][0]), *((eps * 255, row) for eps, row in rows if row)]


def _draw(report: Mapping, panels: Sequence[Mapping], xlabel: str) -> str:
    with mpl.rc_context(STYLE | {'svg.hashsalt': ' '.join(panel['title'] for panel in panels)}):
        columns, rows = min(len(panels), 2), math.ceil(len(panels) / 2)
        figure = Figure(figsize=(6.5 * columns, 3.6 * rows), layout='constrained')
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for axis, panel in zip(axes, panels, strict=False):
            for name, points in panel['lines'].items():
                if len(points) > 1:
                    worst = name == WORST
                    look = (
                        {'color': 'black', 'linestyle': '-', 'linewidth': 2.2, 'band': True}
                        if worst
                        else {'marker': 'o'}
                    )
                    _line(axis, points, report, name, **look)
            axis.set_title(panel['title'])
            if report['constant']:
                blind = report['constant']['figures']['all'][report['score']]['value']
                axis.axhline(blind or 0.0, color='grey', linestyle=':', label='constant answer')
            _finish(axis, xlabel, f'{report["score"]}, %')
        return _svg(figure)


def _line(axis, points, report: Mapping, label: str, band: bool = False, **look) -> None:
    x, rows = zip(*points, strict=True)
    (drawn,) = axis.plot(x, [_value(row, report) for row in rows], label=label, markersize=4, **look)
    if band:
        low, high = ([leading(row, report)[key] for row in rows] for key in ('low', 'high'))
        if None not in (*low, *high):
            axis.fill_between(x, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)


def _finish(axis, xlabel: str, ylabel: str) -> None:
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    if axis.lines:
        axis.legend(frameon=False, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))


def _value(row: Mapping, report: Mapping) -> float:
    value = leading(row, report)['value']
    return float('nan') if value is None else value


def _first(point: tuple) -> float:
    return point[0]


def _svg(figure: Figure) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format='svg', metadata={'Date': None})
    text = drawn.getvalue()
    return text[text.index('<svg') :]
