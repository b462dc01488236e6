"""Who can be made to vanish: ``python tools/targeted.py CONFIG CHECKPOINT --pairs person:road --out DIR``.

Makes pixels of one class another one by attacks that keep the rest of the image, and writes a table of success rates
and collateral damage: ``targeted.json``, ``targeted.md`` and ``targeted.html``.
"""

import argparse
from pathlib import Path

from mmengine.registry import DATASETS
from prettytable import PrettyTable

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, linf_radius, output_folder, positive, seed
from paif_mm.attacks.adaptive import read_adaptive
from paif_mm.checks import check_class_count
from paif_mm.engine.launch import load_model, model_files, needed, plain_settings, read_config
from paif_mm.files import write_bytes, write_json
from paif_mm.mistakes import reports_mistakes
from paif_mm.robustness.evaluate import Bench, evenly
from paif_mm.robustness.pages import markdown, page
from paif_mm.robustness.targeted import ALL, attack_pairs, class_pairs, targeted_sections
from paif_mm.tables import fitted


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description='Make pixels of one class another one, and count what else is lost')
    parser.add_model('config of a segmentor', 'its checkpoint')
    parser.add_argument('--out', required=True, help='folder of the results')
    parser.add_argument(
        '--pairs', nargs='+', default=[ALL], metavar='SOURCE:TARGET', help='classes, by name (default: all to all)'
    )
    parser.add_argument('--eps', type=linf_radius, default=8 / 255, help='L-inf radius (default: 8/255)')
    parser.add_argument('--steps', type=positive, default=100, help='of PGD (default: 100)')
    parser.add_argument('--limit', type=positive, help='so many images, evenly spaced over the test set (default: all)')
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_config_options()
    return parser.parse_args(args)


@reports_mistakes
def main() -> None:
    args = parse_args()
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    config = read_config(args.config, args.cfg_options)
    model, _ = load_model(config, args.checkpoint)
    dataset = DATASETS.build(needed(config, 'test_dataloader', 'a table of targeted attacks').dataset)
    check_class_count(model, dataset.metainfo)
    adaptive = read_adaptive(plain_settings(config, 'adaptive'), model)
    bench = Bench(model, dataset, evenly(len(dataset), args.limit))
    pairs = class_pairs(args.pairs, bench.class_names)
    output_folder(args.out, '--out')
    found = attack_pairs(bench, pairs, args.eps, args.steps, seed=args.seed, adaptive=adaptive)
    write(args, adaptive, found, targeted_sections(found, bench.class_names, args.eps))


def write(args, adaptive: dict, found: list[dict], sections: list) -> None:
    out, title = Path(args.out), f'Targeted attacks on {Path(args.config).stem}'
    settings = {key: getattr(args, key) for key in ('config', 'checkpoint', 'eps', 'steps', 'limit', 'seed')}
    settings |= {'adaptive': adaptive} if adaptive else {}
    write_json(out / 'targeted.json', {'settings': settings, 'pairs': found})
    write_bytes(out / 'targeted.md', markdown(title, sections).encode())
    write_bytes(out / 'targeted.html', page(title, sections, {}).encode())
    for section in sections:
        print(f'\n{section.title}: {section.text}')
        table = PrettyTable(section.head, align='l')
        table.add_rows(section.rows)
        print(fitted(table))
    print(f'\nwritten to {out / "targeted.html"} (also .json, .md)')


if __name__ == '__main__':
    main()
