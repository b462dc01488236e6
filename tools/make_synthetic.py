"""Make synthetic street scenes in MFNet's layout: ``python tools/make_synthetic.py OUT --train N --val M``."""

from paif_mm.arguments import Parser, output_folder, positive, seed, size
from paif_mm.data.synthetic import make_synthetic
from paif_mm.mistakes import reports_mistakes


def parse_args():
    parser = Parser(description='Make synthetic infrared-visible street scenes with labels')
    parser.add_argument('out', help='folder to fill; the same call again continues or reuses it')
    parser.add_argument('--train', type=positive, default=400, help='training pairs (default: 400)')
    parser.add_argument('--val', type=positive, default=100, help='validation pairs (default: 100)')
    parser.add_argument('--size', type=size, default=(120, 160), help='HEIGHTxWIDTH in pixels (default: 120x160)')
    parser.add_argument('--seed', type=seed, default=0)
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    output_folder(args.out, 'OUT')
    made = make_synthetic(args.out, args.train, args.val, args.size, args.seed)
    news = f'{made} made now' if made else 'all there already: nothing to do'
    print(f'\n{args.train} + {args.val} pairs in {args.out} ({news})')


if __name__ == '__main__':
    main()
