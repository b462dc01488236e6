"""What ``paif predict`` and ``paif fuse`` do: pairs in, files out."""

import argparse
import sys

from paif_mm.arguments import Parser, output_folder, positive, share
from paif_mm.engine.launch import model_files
from paif_mm.mistakes import reports_mistakes

from .fusing import FusionInferencer
from .inferencer import PairInferencer
from .onnx_inferencer import OnnxInferencer
from .results import FOLDERS


def parser_of(name: str, description: str, more: str = '') -> Parser:
    """What all commands on pairs take; ``more`` ends the example."""
    parser = Parser(
        prog=f'paif {name}',
        description=description,
        epilog=f'example:\n  paif {name} paif_mm://NAME --visible images/rgb --infrared images/ir --out out {more}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_model()
    parser.add_argument('--visible', required=True, help='image, folder, video, or number of a camera')
    parser.add_argument('--infrared', help='its partner; without it, images are RGBA with infrared as fourth channel')
    parser.add_argument('--out', required=True, help='folder of the results')
    parser.add_argument(
        '--ir-range', nargs='+', metavar='LOW HIGH', help="infrared values of black and white, or 'auto'"
    )
    parser.add_argument('--align', help="'resize', 'ecc', 'ecc-each', or a file of a homography")
    parser.add_argument('--device', help='cpu, cuda:0, ... (default: the GPU if there is one)')
    return parser


@reports_mistakes
def predict(words: list[str] | None = None) -> int:
    """Exit code 1 where a pair could not be read; the others are done all the same."""
    parser = parser_of('predict', f'Segment, detect or classify pairs; results in OUT/{", OUT/".join(FOLDERS)}')
    parser.add_argument('--batch-size', type=positive, default=1)
    parser.add_argument('--show', action='store_true', help='show the pictures in a window')
    parser.add_argument('--score', type=share, default=0.3, help='boxes of a lower score are not drawn (default: .3)')
    parser.add_argument('--onnx', metavar='FILE', help='pass pairs through a file of paif export, on the CPU')
    args = parser.parse_args(words)
    if args.onnx and (args.checkpoint or args.device):
        parser.error(
            '--onnx FILE takes the place of the checkpoint, and runs on the CPU: leave out the checkpoint and --device'
        )
    files = model_files(args.config, args.onnx or args.checkpoint)
    inferencer = OnnxInferencer(*files) if args.onnx else PairInferencer(*files, args.device)
    output_folder(args.out, '--out')
    settings = {'show': args.show, 'pred_score_thr': args.score, 'batch_size': args.batch_size}
    return _count(inferencer, args, **settings)


@reports_mistakes
def fuse(words: list[str] | None = None) -> int:
    """As :func:`predict`."""
    parser = parser_of('fuse', 'Fuse pairs to images OUT/NAME.png')
    parser.add_argument('--grey', action='store_true', help='the fused luminance, without colours')
    parser.add_argument('--bits', type=int, choices=[8, 16], default=8, help='of each channel (default: 8)')
    parser.add_argument('--tile', type=positive, help='fuse in squares of so many pixels, where memory is short')
    args = parser.parse_args(words)
    inferencer = FusionInferencer(*model_files(args.config, args.checkpoint), args.device)
    output_folder(args.out, '--out')
    return _count(inferencer, args, colour=not args.grey, bits=args.bits, tile=args.tile)


def _count(inferencer, args: argparse.Namespace, **settings) -> int:
    """Run an inferencer to its end; the exit code."""
    common = {'ir_range': range_of(args.ir_range), 'align': args.align, 'out_dir': args.out}
    count = sum(1 for _ in inferencer.stream(inputs_of(args.visible, args.infrared), **common, **settings))
    print(f'\n{count} pairs, results in {args.out}')
    if inferencer.failures:
        print(f'{len(inferencer.failures)} left out:', *inferencer.failures, sep='\n  ', file=sys.stderr)
    return int(bool(inferencer.failures))


def inputs_of(visible: str, infrared: str | None):
    """What a command line names, as an inferencer takes it: digits are cameras."""
    given = [int(text) if text is not None and text.isdecimal() else text for text in (visible, infrared)]
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
