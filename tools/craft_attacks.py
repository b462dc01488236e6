"""Make an attack bank: ``python tools/craft_attacks.py SOURCE_CONFIG SOURCE_CHECKPOINT OUT [--victim CONFIG CKPT]``.

Attacks randomly chosen training pairs through a source model at several strengths, offline, for meta-initialisation;
or, with ``--split test``, pairs that ``tools/robustness.py --transfer-bank`` shows to other models.
The same command continues an interrupted bank; with ``--victim`` it measures how far the attacks transfer.
"""

import argparse

from prettytable import PrettyTable

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, linf_radius, output_folder, positive, seed
from paif_mm.attacks.adaptive import read_adaptive
from paif_mm.checks import check_class_count
from paif_mm.engine.launch import load_model, model_files, plain_settings, unaugmented
from paif_mm.files import config_hash, file_hash
from paif_mm.meta_init.craft import craft, transfer
from paif_mm.mistakes import reports_mistakes
from paif_mm.tables import fitted

LEVELS = ['small=1/255', 'moderate=2/255', 'heavy=4/255']  # the paper's


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description='Attack pairs through a source model and store them')
    parser.add_model('config of the source model', 'its checkpoint')
    parser.add_argument('out', help='folder of the bank')
    parser.add_argument(
        '--split', choices=['train', 'val', 'test'], default='train', help='pairs of which dataloader (default: train)'
    )
    parser.add_argument(
        '--levels', nargs='+', type=level, default=LEVELS, help='NAME=EPS, e.g. small=1/255; 0: not attacked'
    )
    parser.add_argument('--num', type=positive, default=200, help='number of pairs (default: 200)')
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_argument('--steps', type=positive, default=10, help='steps of PGD (default: 10)')
    parser.add_argument(
        '--victim', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='another model, to measure the transfer to it'
    )
    return parser.parse_args(args)


def level(text: str) -> tuple[str, float]:
    """'small=1/255' -> ('small', 1 / 255)."""
    name, _, value = text.partition('=')
    if not name or not value:
        raise argparse.ArgumentTypeError(f'{text!r} is no level: write NAME=EPS, e.g. small=1/255')
    return name, linf_radius(value)


@reports_mistakes
def main() -> None:
    args = parse_args()
    given = [level(item) if isinstance(item, str) else item for item in args.levels]
    levels = dict(given)
    if len(levels) < len(given):
        raise SystemExit(f'--levels: two levels have one name, of {", ".join(name for name, _ in given)}')
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    if args.victim:
        args.victim = model_files(*args.victim)
    output_folder(args.out, 'OUT')
    victim = load_model(*args.victim)[0] if args.victim else None
    source, config = load_model(args.config, args.checkpoint)  # the last, whose library is then the default
    dataset = unaugmented(config, args.split)
    for model in filter(None, (source, victim)):
        check_class_count(model, dataset.metainfo)
    adaptive = read_adaptive(plain_settings(config, 'adaptive'), source)
    notes = {'source_config': config_hash(config.model), 'source_checkpoint': file_hash(args.checkpoint)}
    if args.split != 'train':
        notes['split'] = args.split
    bank = craft(source, dataset, args.out, levels, args.num, args.seed, args.steps, notes, adaptive=adaptive)
    print(f'\n{source_table(bank)}\n{len(bank.names)} pairs at {len(levels)} levels in {args.out}')
    if victim:
        rows = {'source': transfer(source, dataset, bank), 'victim': transfer(victim, dataset, bank)}
        print(f'\n{transfer_table(rows)}')


def source_table(bank) -> str:
    """What the attacks did to the source."""
    score = score_name(next(iter(bank.manifest['levels'].values())))
    drawn = PrettyTable(
        ['level', '255 eps', '|delta| ir, vis', 'loss before', 'loss after', f'{score} before, %', f'{score} after']
    )
    for name, row in bank.manifest['levels'].items():
        delta = row['max_delta_255']
        numbers = [f'{row[key]:.3f}' for key in ('loss_before', 'loss_after')]
        numbers += [f'{row[f"{score}_{when}"]:.2f}' for when in ('before', 'after')]
        drawn.add_row([name, f'{row["eps"] * 255:g}', f'{delta["ir"]}, {delta["vis"]}', *numbers])
    return drawn.get_string()


def transfer_table(rows: dict) -> str:
    """Loss and score of source and victim on the bank."""
    levels = next(iter(rows.values()))
    score = score_name(next(iter(levels.values())))
    drawn = PrettyTable(['model', *(f'{level}: {what}' for level in levels for what in ('loss', f'{score}, %'))])
    for name, row in rows.items():
        drawn.add_row([name, *(f'{row[level][key]:.3f}' for level in levels for key in ('loss', score))])
    return fitted(drawn)


def score_name(row: dict) -> str:
    """What measures the models of a table: mIoU or AP50."""
    return next(key.split('_')[0] for key in row if key.startswith(('mIoU', 'AP50')))


if __name__ == '__main__':
    main()
