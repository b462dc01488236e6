"""What larger batches bring an evaluation: ``python benchmarks/batch_sizes.py [--size 480x640]``.

Runs the suite ``strong`` as tools/robustness.py does, on synthetic scenes, once for each batch size, after a first
batch and its first attack, which are not counted. Prints seconds per image and peak memory; the last line is JSON: the
seconds per image of each batch size that has found room in memory.
"""

import argparse
import json
import tempfile
import time
from copy import copy
from pathlib import Path

import torch
from measuring import peak_memory, prepared_device, synchronize
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.data.synthetic import make_synthetic
from paif_mm.robustness.cases import make_suite
from paif_mm.robustness.evaluate import Bench, evaluate
from paif_mm.robustness.records import Records

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default=str(ROOT / 'configs/_base_/models/segformer_mit-b0.py'), help='its config')
    parser.add_argument('--size', default='96x128', help='height x width of the scenes')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1, 4, 16])
    parser.add_argument('--images', type=int, default=4, help='at least; a whole batch in any case')
    parser.add_argument('--steps', type=int, default=20, help='of Auto-PGD: fewer than the 100 of the suite, for time')
    args = parser.parse_args()
    print(f'suite strong, {args.steps} steps, scenes of {args.size}')
    with tempfile.TemporaryDirectory() as folder:
        bench = build(args, Path(folder))
        cases = make_suite('strong', bench.score.name, [4 / 255], steps=args.steps, fused=True, pairs=True)
        found = {}
        for size in args.batch_sizes:
            images = bench.images[: max(size, args.images)]
            try:
                run(bench, cases[:2], Path(folder) / f'first_{size}', size, images[:size])
                peak = peak_memory()
                seconds = run(bench, cases, Path(folder) / str(size), size, images) / len(images)
            except torch.cuda.OutOfMemoryError:
                print(f'batch of {size:2}: out of memory', flush=True)
                break
            found[f'batch_{size}'] = seconds
            print(f'batch of {size:2}: {seconds:.3f} s per image, peak memory {peak():.0f} MiB', flush=True)
    print(json.dumps({name: round(seconds, 4) for name, seconds in found.items()}))


def build(args: argparse.Namespace, folder: Path) -> Bench:
    """An untrained model and scenes of one size."""
    height, width = map(int, args.size.split('x'))
    count = max(args.images, *args.batch_sizes)
    make_synthetic(folder / 'scenes', train=1, val=count, size=(height, width), seed=0, progress=False)
    init_default_scope('mmseg')
    device = prepared_device()
    config = Config.fromfile(args.model)
    if device.type == 'cpu':
        config.model.decode_head.norm_cfg.type = 'BN'  # the synchronised one needs a GPU
    config.model.data_preprocessor.task.size = (height, width)
    torch.manual_seed(0)
    model = MODELS.build(config.model).to(device).eval()
    data = Config.fromfile(ROOT / 'configs/_base_/datasets/synthetic.py').test_dataloader.dataset
    dataset = DATASETS.build({**data, 'data_root': str(folder / 'scenes')})
    return Bench(model, dataset, range(count))


def run(bench: Bench, cases, folder: Path, batch_size: int, images: list[int]) -> float:
    """Seconds of an evaluation of some images."""
    bench = copy(bench)
    bench.images = images
    records = Records(folder, {})
    synchronize()
    start = time.perf_counter()
    evaluate(bench, cases, records, batch_size=batch_size, progress=False)
    synchronize()
    seconds = time.perf_counter() - start
    records.close()
    return seconds


if __name__ == '__main__':
    main()
