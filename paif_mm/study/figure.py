"""The picture of a study: bars by row, as the paper's histograms."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from paif_mm.robustness.report import WORST

from .plan import Plan
from .table import CLEAN, collect, label, mean_and_spread, shown_tests

COLOURS = ('#9aa5b1', '#2f6db5', '#12305a', '#e08a2e', '#8a3b12', '#6aa84f', '#274e13')


def draw(plan: Plan, path: str | Path) -> bool:
    """Draw the leading score of every row, clean and attacked, with the paper's figures as crosses.

    One panel per group of rows; bars are means over seeds, whiskers their standard deviation.

    Args:
        plan: whose results to draw.
        path: of the picture; any format of matplotlib.

    Returns:
        bool: whether there was anything to draw.
    """
    results = {row.name: collect(row) for row in plan.rows}
    tests = [test for test in shown_tests(results) if test == CLEAN or test.startswith(('pgd5-', WORST))]
    drawn = [row for row in plan.rows if tests and mean_and_spread(results[row.name], tests[0])]
    if not drawn:
        return False
    groups = list(dict.fromkeys(row.group for row in drawn))
    members = [[row for row in drawn if row.group == group] for group in groups]
    width = max(6.5, 1.6 + 1.2 * len(drawn))
    figure = Figure(figsize=(width, 4), layout='constrained')
    axes = figure.subplots(1, len(groups), sharey=True, squeeze=False, width_ratios=[len(rows) for rows in members])[0]
    for axis, group, rows in zip(axes, groups, members, strict=True):
        _draw_group(axis, rows, results, tests)
        axis.set_title(group or plan.title, fontsize=10)
    score = next(result.score for found in results.values() for result in found if result.score)
    axes[0].set_ylabel(f'{score} (%)')
    columns = int(width / 1.6)  # inches of an entry
    entries = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries, loc='outside lower center', ncols=columns, fontsize=8)
    with rc_context({'svg.fonttype': 'none', 'svg.hashsalt': plan.name}):  # text as text; the same file every time
        figure.savefig(path, metadata={'Date': None} if str(path).endswith('.svg') else None)
    return True


def _draw_group(axis, rows: Sequence, results, tests: Sequence[str]) -> None:
    width = 0.84 / len(tests)
    for i, test in enumerate(tests):
        places = [k + (i - (len(tests) - 1) / 2) * width for k in range(len(rows))]
        found = [mean_and_spread(results[row.name], test) or (0.0, 0.0, 0) for row in rows]
        means, spreads = [value[0] for value in found], [value[1] for value in found]
        axis.bar(places, means, width * 0.92, label=label(test), color=COLOURS[i % len(COLOURS)])
        whiskers = [(x, m, s) for x, m, s in zip(places, means, spreads, strict=True) if s]
        if whiskers:
            axis.errorbar(*zip(*whiskers, strict=True), fmt='none', ecolor='black', elinewidth=0.9, capsize=2)
        paper = [(x, row.paper[test]) for x, row in zip(places, rows, strict=True) if test in row.paper]
        if paper:
            first = '_' if 'paper' in axis.get_legend_handles_labels()[1] else ''
            axis.plot(*zip(*paper, strict=True), 'x', color='black', markersize=5, label=f'{first}paper')
    axis.set_xticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    axis.spines[['top', 'right']].set_visible(False)
