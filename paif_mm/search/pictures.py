"""Pictures of a search: the choices over time, and the network that they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from paif_mm.fusion import CHAINS

TITLES = {'ir': 'infrared', 'vis': 'visible', 'fused': 'fused'}


def draw_history(lines: Sequence[Mapping], path: str | Path) -> None:
    """Draw the softmax weights of every place over the iterations, and the entropies; PNG or any matplotlib format.

    Args:
        lines: one dict per report with ``iter``, ``probabilities`` (place -> operation -> weight) and ``entropies``
            (place -> nats). With none, no picture is written.
        path: file to write.
    """
    if not lines:
        return
    iterations = [line['iter'] for line in lines]
    places = list(lines[0]['probabilities'])
    figure = Figure(figsize=(13, 6.5), layout='constrained')
    axes = figure.subplots(2, 4, sharex=True)
    grid = [axes[i % 2][i // 2] for i in range(len(places))]  # a column per chain
    for axis, place in zip(grid, places, strict=True):
        for name in lines[0]['probabilities'][place]:
            axis.plot(iterations, [line['probabilities'][place][name] for line in lines], label=name)
        chain, position = place.split('.')
        axis.set_title(f'{TITLES[chain]}, place {int(position) + 1}')
        axis.set_ylabel('softmax weight')
    grid[0].legend()
    for axis, chosen in ((axes[0][3], places[::2]), (axes[1][3], places[1::2])):
        for place in chosen:
            axis.plot(iterations, [line['entropies'][place] for line in lines], label=place)
        axis.set_ylabel('entropy (nats)')
        axis.legend()
    for axis in axes[1]:
        axis.set_xlabel('iteration')
    figure.savefig(path, dpi=100)


#: Boxes of the drawing: name -> (x, y, text, colour); searched places are filled in by the genotype.
_FIXED = {
    'ir': (0, 1, 'infrared', 'white'),
    'vis': (0, 0, 'visible', 'white'),
    'ir.stem': (1, 1, 'stem +\nguided filter', 'whitesmoke'),
    'vis.stem': (1, 0, 'stem +\nguided filter', 'whitesmoke'),
    'rule': (4, 0.5, 'adaptive\naverage', 'whitesmoke'),
    'head': (7, 0.5, 'head', 'whitesmoke'),
    'out': (8, 0.5, 'fused', 'white'),
}
_PLACES = {'ir.0': (2, 1), 'ir.1': (3, 1), 'vis.0': (2, 0), 'vis.1': (3, 0), 'fused.0': (5, 0.5), 'fused.1': (6, 0.5)}
_ARROWS = (
    *(('ir', 'ir.stem'), ('ir.stem', 'ir.0'), ('ir.0', 'ir.1'), ('ir.1', 'rule')),
    *(('vis', 'vis.stem'), ('vis.stem', 'vis.0'), ('vis.0', 'vis.1'), ('vis.1', 'rule')),
    *(('rule', 'fused.0'), ('fused.0', 'fused.1'), ('fused.1', 'head'), ('head', 'out')),
)
#: Skip connections: from before a chain to behind it, drawn above or below.
_SKIPS = ((('ir.stem', 'rule'), 0.42), (('vis.stem', 'rule'), -0.42), (('rule', 'head'), 0.42))
_WIDTH, _HEIGHT = 0.74, 0.36


def draw_genotype(genotype: Mapping, path: str | Path, probabilities: Mapping | None = None) -> None:
    """Draw the network of a genotype as a graph; PNG or any matplotlib format.

    Args:
        genotype: chain -> operations.
        path: file to write.
        probabilities: place -> operation -> softmax weight of a search, written under the chosen operations.
    """
    colours = _operation_colours(genotype)
    boxes = dict(_FIXED)
    for chain, names in genotype.items():
        for i, name in enumerate(names):
            place = f'{chain}.{i}'
            weight = f'\n{probabilities[place][name]:.2f}' if probabilities else ''
            boxes[place] = (*_PLACES[place], name + weight, colours[name])

    figure = Figure(figsize=(13, 3.2), layout='constrained')
    axis = figure.subplots()
    for x, y, text, colour in boxes.values():
        corner = (x - _WIDTH / 2, y - _HEIGHT / 2)
        axis.add_patch(FancyBboxPatch(corner, _WIDTH, _HEIGHT, boxstyle='round,pad=0.03', fc=colour, ec='black'))
        axis.text(x, y, text, ha='center', va='center', fontsize=10)
    for source, target in _ARROWS:
        (x0, y0, *_), (x1, y1, *_) = boxes[source], boxes[target]
        axis.annotate(
            '', (x1 - _WIDTH / 2 - 0.03, y1), (x0 + _WIDTH / 2 + 0.03, y0), arrowprops={'arrowstyle': '->', 'lw': 1.4}
        )
    for (source, target), height in _SKIPS:
        (x0, y0, *_), (x1, y1, *_) = boxes[source], boxes[target]
        edge = _HEIGHT / 2 + 0.03 if height > 0 else -_HEIGHT / 2 - 0.03
        axis.plot([x0, x0, x1], [y0 + edge, y0 + height, y0 + height], color='grey', lw=1)
        axis.annotate('', (x1, y1 + edge), (x1, y0 + height), arrowprops={'arrowstyle': '->', 'color': 'grey'})
    axis.set_xlim(-0.5, 8.5)
    axis.set_ylim(-0.55, 1.55)
    axis.set_axis_off()
    figure.savefig(path, dpi=100)


def _operation_colours(genotype: Mapping) -> dict[str, str]:
    palette = ('lightblue', 'moccasin', 'palegreen', 'lightpink', 'plum', 'khaki')
    names = sorted({name for chain in CHAINS for name in genotype[chain]})
    return {name: palette[i % len(palette)] for i, name in enumerate(names)}
