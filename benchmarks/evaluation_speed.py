"""What a suite costs beyond its passes: ``python benchmarks/evaluation_speed.py [--steps 20] [--images 4]``.

Runs the suite ``strong`` as tools/robustness.py does (attacks, predictions, scores, quality of the fused images,
records), one by one and in batches, counts the forward passes with and without gradients that the model makes, and
compares the time with as many bare ones, measured in between in the same run. It also counts the results that differ.
Ends with one JSON line. With --config and --checkpoint, a trained model on its own test set.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from attack_overhead import gradient_by_hand
from measuring import clock
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

import paif_mm  # noqa: F401
from paif_mm.data.synthetic import make_synthetic
from paif_mm.engine.launch import load_model
from paif_mm.robustness.cases import make_suite
from paif_mm.robustness.evaluate import Bench, evaluate, evenly
from paif_mm.robustness.records import Records

CONFIG = 'configs/quickstart/segformer_general_synthetic.py'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', help='config of a trained segmentor (default: an untrained one, synthetic scenes)')
    parser.add_argument('--checkpoint', help='its checkpoint')
    parser.add_argument('--size', default='192x256', help='height x width of the synthetic scenes')
    parser.add_argument('--images', type=int, default=4)
    parser.add_argument('--batch-size', type=int, default=4, help='of the evaluation that is compared with one by one')
    parser.add_argument('--steps', type=int, default=20, help='of Auto-PGD: fewer than the 100 of the suite, for time')
    parser.add_argument('--eps', type=float, default=4 / 255)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = build(args, Path(folder))
        cases = make_suite('strong', bench.score.name, [args.eps], steps=args.steps, fused=True, pairs=True)
        one_by_one, batched = {}, {}
        ratio = compared(bench, cases, Path(folder) / 'single', one_by_one, 1)
        batch_ratio = compared(bench, cases, Path(folder) / 'batched', batched, args.batch_size)
        different = [place for place in one_by_one if one_by_one[place]['score'] != batched[place]['score']]
        drift = max(difference(bench, one_by_one[place], batched[place]) for place in one_by_one)

    share = len(different) / len(one_by_one)
    print(f'batches of {args.batch_size}: {share:.1%} of {len(one_by_one)} results differ')
    print(f'largest difference of an accuracy: {drift:.5f}')
    figures = {'suite_ratio': ratio, 'batch_ratio': batch_ratio, 'differing_share': share, 'accuracy_drift': drift}
    print(json.dumps(figures))


def build(args, folder: Path) -> Bench:
    if args.config:
        model, config = load_model(args.config, args.checkpoint)
        dataset = DATASETS.build(config.test_dataloader.dataset)
    else:
        config = Config.fromfile(CONFIG)
        height, width = map(int, args.size.split('x'))
        make_synthetic(folder / 'scenes', train=1, val=args.images, size=(height, width), seed=0, progress=False)
        init_default_scope('mmseg')
        torch.manual_seed(0)
        if not torch.cuda.is_available():
            config.model.decode_head.norm_cfg.type = 'BN'  # the synchronised one needs a GPU
        config.model.data_preprocessor.task.size = (height, width)
        model = MODELS.build(config.model).to('cuda' if torch.cuda.is_available() else 'cpu').eval()
        dataset = DATASETS.build({**config.test_dataloader.dataset, 'data_root': str(folder / 'scenes')})
    return Bench(model, dataset, evenly(len(dataset), args.images))


def compared(bench: Bench, cases, folder: Path, found: dict, batch_size: int) -> float:
    """Time of an evaluation in batches / time of its passes, which are measured before, between and after batches."""
    turns = max(len(bench.images) // batch_size, 1)
    batch = bench.batch([bench.dataset[image] for image in bench.images[::turns]])
    counts, seconds, bares = {True: 0, False: 0}, 0.0, [bare(bench.model, batch)]
    for turn in range(turns):
        seconds += measured(bench, cases, folder, counts, found, (turn, turns), batch_size)
        bares.append(bare(bench.model, batch))
    with_gradient, without = (statistics.mean(times) / len(batch['inputs']) for times in zip(*bares, strict=True))
    expected = counts[True] * with_gradient + counts[False] * without
    print(f'suite strong, {len(bench.images)} images in batches of {batch_size}, {torch.get_num_threads()} threads')
    print(
        f'{counts[True]} passes of {with_gradient:.4f} s an image, {counts[False]} without gradients of {without:.4f}'
    )
    print(f'suite: {seconds:.2f} s = {seconds / expected:.3f} x the passes')
    return round(seconds / expected, 4)


def measured(bench: Bench, cases, folder: Path, counts: dict, found: dict, share, batch_size: int = 1) -> float:
    """Seconds of an evaluation; adds its forward passes with and without gradients, and its records."""

    def count(module, inputs):
        counts[torch.is_grad_enabled()] += len(inputs[0])

    handle = bench.model.backbone.register_forward_pre_hook(count)
    records = Records(folder, {})
    start = clock()
    evaluate(bench, cases, records, batch_size=batch_size, share=share, progress=False)
    seconds = clock() - start
    handle.remove()
    records.close()
    found |= {(case, image): record for case, images in records.found.items() for image, record in images.items()}
    return seconds


def bare(model, batch: dict, repeats: int = 7) -> tuple[float, float]:
    """Mean seconds of a forward and backward pass to the pixels, and of a forward pass alone, after one warm-up."""
    data = {'inputs': batch['inputs'], 'data_samples': None}

    @torch.no_grad()
    def look():
        model(**model.data_preprocessor(dict(data)), mode='tensor')

    seconds = []
    for form in (lambda: gradient_by_hand(model, batch), look):
        times = []
        for _ in range(repeats + 1):
            start = clock()
            form()
            times.append(clock() - start)
        seconds.append(statistics.mean(times[1:]))  # as of the suite: what disturbs both is in both
    return tuple(seconds)


def difference(bench: Bench, a: dict, b: dict) -> float:
    """How far the accuracies of one image are apart."""
    one, other = (bench.score([record['score']]).per_image()[0] for record in (a, b))
    return float(abs(one - other))


if __name__ == '__main__':
    main()
