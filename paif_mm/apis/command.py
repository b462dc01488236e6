"""What ``paif predict`` and ``paif fuse`` do: pairs in, files out."""

import argparse
import sys

from paif_mm.arguments import Parser, output_folder, positive
from paif_mm.engine.launch import model_files
from paif_mm.mistakes import reports_mistakes

from .inferencer import PairInferencer
from .results import FOLDERS

EXAMPLE = """example:
  paif predict paif_mm://NAME --visible images/rgb --infrared images/thermal --out out
"""


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        prog='paif predict',
        description='Segment, detect or classify pairs: images, folders, videos or cameras',
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_model()
    parser.add_argument('--visible', required=True, help='image, folder, video, or number of a camera')
    parser.add_argument('--infrared', help='its partner; without it, images are RGBA with infrared as fourth channel')
    parser.add_argument('--out', required=True, help=f'folder of the results, in {", ".join(FOLDERS)} inside')
    parser.add_argument(
        '--ir-range', nargs='+', metavar='LOW HIGH', help="infrared values of black and white, or 'auto'"
    )
    parser.add_argument('--align', help="'resize', 'ecc', 'ecc-each', or a file of a homography")
    parser.add_argument('--batch-size', type=positive, default=1)
    parser.add_argument('--device', help='cpu, cuda:0, ... (default: the GPU if there is one)')
    parser.add_argument('--show', action='store_true', help='show the pictures in a window')
    parser.add_argument('--score', type=float, default=0.3, help='boxes of a lower score are not drawn (default: .3)')
    return parser.parse_args(args)


@reports_mistakes
def predict(args: list[str] | None = None) -> int:
    """Exit code 1 where a pair could not be read; the others are done all the same."""
    args = parse_args(args)
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    output_folder(args.out, '--out')
    inferencer = PairInferencer(args.config, args.checkpoint, args.device)
    count = 0
    for _ in inferencer.stream(
        inputs_of(args.visible, args.infrared),
        args.batch_size,
        ir_range=range_of(args.ir_range),
        align=args.align,
        out_dir=args.out,
        show=args.show,
        pred_score_thr=args.score,
    ):
        count += 1
    print(f'\n{count} pairs, results in {args.out}')
    if inferencer.failures:
        print(f'{len(inferencer.failures)} left out:', *inferencer.failures, sep='\n  ', file=sys.stderr)
    return int(bool(inferencer.failures))


def inputs_of(visible: str, infrared: str | None):
    """What a command line names, as an inferencer takes it: digits are cameras."""
    given = [int(text) if text is not None and text.isdigit() else text for text in (visible, infrared)]
    return given[0] if infrared is None else tuple(given)


def range_of(words: list[str] | None) -> tuple[float, float] | str | None:
    """'auto', or two numbers.

    Raises:
        SystemExit: something else.
    """
    if words is None or words == ['auto']:
        return words and 'auto'
    try:
        low, high = map(float, words)
    except ValueError:
        raise SystemExit(f'--ir-range {" ".join(words)}: give two numbers, or auto') from None
    return low, high
