"""Write a model as a file for other programs: ``python tools/export.py CONFIG CHECKPOINT [--format onnx]``.

The file takes pairs (1, 4, height, width) of any size, B,G,R,IR in [0, 255], and gives the fused images, if there are
any, and what the model says: logits, or boxes with scores and labels behind non-maximum suppression. It is read back,
and compared with PyTorch on three sizes.
"""

import argparse
from pathlib import Path

from mmengine.runner import CheckpointLoader

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.apis.deployed import deployed
from paif_mm.apis.exporting import (
    ENDINGS,
    WORST,
    errors,
    export,
    mean_iou,
    require_onnx,
    session,
    sizes_around,
    smaller,
)
from paif_mm.arguments import Parser, output_folder, positive
from paif_mm.engine.launch import load_model, model_files, read_config, unaugmented
from paif_mm.mistakes import reports_mistakes
from paif_mm.robustness.evaluate import evenly


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Write a model of pairs as ONNX, TorchScript or torch.export')
    parser.add_model()
    parser.add_argument('--format', choices=list(ENDINGS), default='onnx', help='default: onnx')
    parser.add_argument('--part', choices=['model', 'fusion'], default='model', help='fusion: the fused images alone')
    parser.add_argument(
        '--shape',
        type=positive,
        nargs=2,
        default=[480, 640],
        metavar=('HEIGHT', 'WIDTH'),
        help='size to trace it with, in pixels (default: 480 640); the file takes others, too',
    )
    parser.add_argument('--out', help='the file (default: work_dirs/export/CONFIG with the ending of the format)')
    parser.add_argument('--fp16', action='store_true', help='also in half precision (ONNX, segmentors)')
    parser.add_argument('--int8', action='store_true', help='also with 8 bits in matrix products (ONNX, segmentors)')
    parser.add_argument('--limit', type=positive, default=50, help='test pairs that measure their cost (default: 50)')
    parser.add_config_options()
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    kinds = [kind for kind in ('fp16', 'int8') if getattr(args, kind)]
    if args.format == 'onnx':
        require_onnx()
    elif kinds:
        raise SystemExit(f'--{kinds[0]} is for --format onnx')
    config, checkpoint = model_files(args.config, args.checkpoint)
    path = Path(args.out or f'work_dirs/export/{Path(config).stem}{ENDINGS[args.format]}')
    model, config = load_model(read_config(config, args.cfg_options), checkpoint)
    module = deployed(model.cpu(), args.part)
    if kinds and 'logits' not in module.outputs:
        raise SystemExit(f'--{kinds[0]} is for segmentors, whose mIoU tells what it costs')
    output_folder(path.parent, '--out')
    meta = classes_of(checkpoint) if args.part == 'model' else {}
    run = export(module, path, args.format, tuple(args.shape), meta)
    print(f'{path}: {size(path)}; largest errors against PyTorch, as shares of the largest value:')
    check(module, run, tuple(args.shape))
    if kinds:
        compare(config, path, run, kinds, args.limit)


def classes_of(checkpoint: str) -> dict:
    content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu', logger='silent')
    meta = content.get('meta', {}).get('dataset_meta') or {}
    return {key: [*map(plain, meta[key])] for key in ('classes', 'palette') if meta.get(key)}


def plain(value):
    return value if isinstance(value, str) else [int(part) for part in value]


def check(module, run, shape: tuple[int, int]) -> None:
    """Print the errors on three sizes.

    Raises:
        SystemExit: one of them is too large.
    """
    worst = 0.0
    for height, width in sizes_around(shape):
        found = errors(module, run, (height, width))
        worst = max(worst, *found.values())
        print(f'  {height}x{width}: {", ".join(f"{name} {error:.1e}" for name, error in found.items())}')
    if worst > WORST:
        raise SystemExit(f'the file is not the model: an error of {worst:.1e}, of more than {WORST:g}')


def compare(config, path: Path, run, kinds: list[str], limit: int) -> None:
    """Write smaller files, and print what they cost in mIoU."""
    dataset = unaugmented(config, 'test')
    samples = [dataset[place] for place in evenly(len(dataset), limit)]
    classes = len(dataset.metainfo['classes'])
    whole = mean_iou(run, samples, classes)
    print(f'mIoU on {len(samples)} pairs of the test set: {whole:.2f}')
    for kind in kinds:
        target = smaller(path, kind)
        found = mean_iou(session(target), samples, classes)
        print(f'{target}: {size(target)}, mIoU {found:.2f} ({found - whole:+.2f})')


def size(path: Path) -> str:
    return f'{path.stat().st_size / 1e6:.1f} MB'


if __name__ == '__main__':
    main()
