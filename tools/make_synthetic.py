"""Make synthetic street scenes in MFNet's layout: ``python tools/make_synthetic.py OUT --train N --val M``."""

import argparse
import re

from paif_mm.data.synthetic import make_synthetic


def size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match:
        raise argparse.ArgumentTypeError(f'{text!r} is no size: write HEIGHTxWIDTH, e.g. 120x160')
    return int(match[1]), int(match[2])


def main() -> None:
    parser = argparse.ArgumentParser(description='Make synthetic infrared-visible street scenes with labels')
    parser.add_argument('out', help='folder to fill; the same call again continues or reuses it')
    parser.add_argument('--train', type=int, default=400, help='training pairs (default: 400)')
    parser.add_argument('--val', type=int, default=100, help='validation pairs (default: 100)')
    parser.add_argument('--size', type=size, default=(120, 160), help='HEIGHTxWIDTH in pixels (default: 120x160)')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        made = make_synthetic(args.out, args.train, args.val, args.size, args.seed)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    news = f'{made} made now' if made else 'all there already: nothing to do'
    print(f'\n{args.train} + {args.val} pairs in {args.out} ({news})')


if __name__ == '__main__':
    main()
