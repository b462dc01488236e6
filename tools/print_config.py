"""Print the whole of a config, its bases merged: ``python tools/print_config.py CONFIG [--cfg-options ...]``."""

import argparse
from pathlib import Path

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, output_folder
from paif_mm.engine.launch import read_config
from paif_mm.mistakes import reports_mistakes

SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Print the whole of a config, its bases merged')
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', type=Path, help='write it to this .py, .json or .yaml file instead')
    parser.add_config_options()
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    if args.out and args.out.suffix not in SUFFIXES:
        raise SystemExit(f'--out {args.out}: the name must end in one of {", ".join(SUFFIXES)}')
    config = read_config(args.config, args.cfg_options)
    if args.out:
        output_folder(args.out.parent, '--out')
        config.dump(args.out)
        print(f'written to {args.out}')
    else:
        print(config.pretty_text)


if __name__ == '__main__':
    main()
