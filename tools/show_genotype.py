"""Show the network of a genotype: ``python tools/show_genotype.py GENOTYPE [--out PICTURE]``."""

import argparse
from pathlib import Path

from prettytable import PrettyTable

from paif_mm.arguments import Parser, output_folder, positive, size
from paif_mm.fusion import GENOTYPES, FusionNet, load_genotype, read_notes
from paif_mm.mistakes import reports_mistakes
from paif_mm.search.efficiency import flops_per_pixel, parameter_count
from paif_mm.search.pictures import draw_genotype

PICTURES = ('png', 'pdf', 'svg', 'jpg')


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Show the network of a genotype, as a table and as a picture')
    parser.add_argument('genotype', help=f'genotype file, as a search writes it, or one of {", ".join(GENOTYPES)}')
    parser.add_argument('--channels', type=positive, help='of the fusion network (default: those of the search, or 32)')
    parser.add_argument('--size', type=size, default='480x640', help='height x width of the pairs, for the cost')
    parser.add_argument('--out', type=Path, help='picture to write (default: the genotype file with .png)')
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    genotype = load_genotype(args.genotype)
    notes = notes_about(genotype, read_notes(args.genotype))
    out = args.out or Path(Path(args.genotype).with_suffix('').name + '.png')
    if args.out is None and Path(args.genotype).is_file():
        out = Path(args.genotype).with_suffix('.png')
    if out.suffix[1:] not in PICTURES:
        raise SystemExit(f'--out {out}: a picture ends with .{", .".join(PICTURES)}')
    output_folder(out.parent, '--out')
    network = FusionNet(genotype, channels=args.channels or notes.get('channels', 32))
    print(table(network, notes, args.size))
    print(f'whole fusion network: {parameter_count(network):,} parameters; a multiply-add counts as two FLOPs')
    if notes:
        print(f'searched for {notes.get("iteration")} iterations, config {notes.get("config_hash")}')
    draw_genotype(genotype, out, notes.get('probabilities'))
    print(f'picture written to {out}')


def notes_about(genotype: dict, notes: dict) -> dict:
    """The notes of a search, if it weighed these operations: a file edited by hand says nothing about its own."""
    weights = notes.get('probabilities', {})
    places = {f'{chain}.{i}': name for chain, names in genotype.items() for i, name in enumerate(names)}
    return notes if all(name in weights.get(place, {}) for place, name in places.items()) else {}


def table(network: FusionNet, notes: dict, size: tuple[int, int]) -> str:
    """One row per place: operation, what the search thought of it, and its cost."""
    columns = ['softmax weight', 'entropy', 'runner-up'] if notes else []
    drawn = PrettyTable(['place', 'operation', *columns, 'parameters', f'GFLOPs at {size[0]}x{size[1]}'])
    chains = {'ir': network.ir.chain, 'vis': network.vis.chain, 'fused': network.chain}
    total = [0, 0.0]
    for chain, names in network.genotype.items():
        for i, name in enumerate(names):
            place, operation = f'{chain}.{i}', chains[chain][i]
            flops = flops_per_pixel(operation, network.channels) * size[0] * size[1]
            cost = [parameter_count(operation), flops / 1e9]
            total = [a + b for a, b in zip(total, cost, strict=True)]
            drawn.add_row([place, name, *(notes_of(place, name, notes) if notes else []), *formatted(cost)])
    drawn.add_row(['sum', *[''] * (1 + len(columns)), *formatted(total)])
    drawn.align = 'r'
    return drawn.get_string()


def notes_of(place: str, name: str, notes: dict) -> list[str]:
    weights = notes['probabilities'][place]
    others = {other: weight for other, weight in weights.items() if other != name}
    second = max(others, key=others.get, default=None)
    runner_up = f'{second} {others[second]:.3f}' if second else ''
    return [f'{weights[name]:.3f}', f'{notes["entropies"][place]:.3f}', runner_up]


def formatted(cost: list) -> list[str]:
    return [f'{cost[0]:,}', f'{cost[1]:.2f}']


if __name__ == '__main__':
    main()
