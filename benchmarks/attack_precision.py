"""What gradients in bf16 cost an attack: ``python benchmarks/attack_precision.py CONFIG CHECKPOINT``.

Attacks a trained segmentor's test set by PGD twice, from the same random starts, through passes in fp32 and in bf16,
and measures both results in fp32: mIoU, and the model's own loss. On a GPU it also compares the time. Ends with one
JSON line.
"""

import argparse
import json

import torch
from measuring import clock
from mmengine.registry import DATASETS

import paif_mm  # noqa: F401
from paif_mm.attacks import PGD
from paif_mm.engine.launch import load_model
from paif_mm.files import hash_seed
from paif_mm.robustness.evaluate import Bench, evenly

DTYPES = ('float32', 'bfloat16')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a trained segmentor')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--images', type=int, help='of the test set, evenly spaced (default: all)')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--eps', type=float, default=4, help='radius in pixel values of 0..255')
    parser.add_argument('--steps', type=int, default=10)
    args = parser.parse_args()
    model, config = load_model(args.config, args.checkpoint)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    bench = Bench(model, dataset, evenly(len(dataset), args.images))
    attacks = {dtype: PGD(args.eps / 255, steps=args.steps, keep='last', dtype=dtype) for dtype in DTYPES}
    records, losses = {name: [] for name in ('clean', *DTYPES)}, {name: [] for name in ('clean', *DTYPES)}
    seconds, alike = dict.fromkeys(DTYPES, 0.0), []
    for first in range(0, len(bench.images), args.batch_size):
        images = bench.images[first : first + args.batch_size]
        batch = bench.batch([dataset[i] for i in images])
        shown = {}
        for dtype, attack in attacks.items():
            rng = [torch.Generator(bench.device).manual_seed(hash_seed(0, bench.names[i])) for i in images]
            start = clock()
            result = attack(model, batch, rng=rng)
            seconds[dtype] += clock() - start
            shown |= {'clean': result.clean, dtype: result.images}
        alike += [(a == b).float().mean().item() for a, b in zip(*(shown[dtype] for dtype in DTYPES), strict=True)]
        for name, pixels in shown.items():
            records[name] += bench.records(bench.predict(pixels, batch), batch)
            losses[name] += bench.losses(result, pixels, batch).tolist()

    found = {name: {'mIoU': miou(bench, records[name]), 'loss': mean(losses[name])} for name in records}
    print(f'PGD-{args.steps} at {args.eps:g}/255 on {len(bench.images)} images, {bench.device}')
    for name, values in found.items():
        print(f'{name}: mIoU {values["mIoU"]:.2f}, loss {values["loss"]:.4f}')
    print(f'{mean(alike):.1%} of all pixel values end the same')
    if bench.device.type == 'cuda':
        found['time_ratio'] = round(seconds['bfloat16'] / seconds['float32'], 3)
        print(f'time in bf16 / in fp32: {found["time_ratio"]}')
    print(json.dumps({**found, 'same_pixels': round(mean(alike), 4)}))


def miou(bench: Bench, records: list[dict]) -> float:
    return round(float(bench.score(records).figures(torch.ones(1, len(records)).numpy())['mIoU'][0]), 3)


def mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 5)


if __name__ == '__main__':
    main()
