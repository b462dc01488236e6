"""Print the whole of a config, its bases merged: ``python tools/print_config.py CONFIG [--cfg-options ...]``."""

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction

SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Print the whole of a config, its bases merged')
    parser.add_argument('config', type=Path, help='config file')
    parser.add_argument('--out', type=Path, help='write it to this .py, .json or .yaml file instead')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override settings of the config, as tools/train.py does'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.config.is_file():
        raise SystemExit(f'config {args.config} does not exist')
    if args.out and args.out.suffix not in SUFFIXES:
        raise SystemExit(f'--out {args.out}: the name must end in one of {", ".join(SUFFIXES)}')
    config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    if args.out:
        config.dump(args.out)
        print(f'written to {args.out}')
    else:
        print(config.pretty_text)


if __name__ == '__main__':
    main()
