"""What each suite costs an image: ``python benchmarks/suite_costs.py CONFIG CHECKPOINT [--images 1]``.

Runs ``paper``, ``strong`` and ``trouble`` as tools/robustness.py does, at its default radii on both modalities, one
image at a time, and the checks of gradient masking with the steps of ``strong``. Counts the passes that the model
makes, with and without gradients, and the seconds: of a CPU those that all threads of this process took, so that with
OMP_NUM_THREADS=1 they are those of one core. ``full`` takes hours, and is not run: its passes are those that its
attacks plan, its seconds as many of ``strong``'s passes. Ends with one JSON line.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from measuring import clock
from mmengine.registry import DATASETS
from prettytable import PrettyTable

import paif_mm  # noqa: F401
from paif_mm.corruptions.frames import Frames
from paif_mm.corruptions.imagenet_c import is_installed
from paif_mm.engine.launch import load_model
from paif_mm.robustness.cases import DEFAULT_EPS, STEPS, corruption_names, make_suite
from paif_mm.robustness.evaluate import Bench, evaluate, evenly
from paif_mm.robustness.masking import diagnose
from paif_mm.robustness.records import Records
from paif_mm.robustness.smallest_radius import smallest_radius_cases

RUN = ('paper', 'strong', 'trouble')
QUERIES = 300  # of Square, as in the tool's diagnostics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a trained segmentor')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--images', type=int, default=1, help='of the test set, evenly spaced (default: 1)')
    parser.add_argument('--steps', type=int, help='of Auto-PGD (default: those of each suite)')
    args = parser.parse_args()
    model, config = load_model(args.config, args.checkpoint)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    bench = Bench(model, dataset, evenly(len(dataset), args.images))
    counts = counted(bench.model)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in RUN:
            cases, records = suite(name, bench, args.steps), Records(Path(folder) / name, {})
            with Spent(counts, args.images) as rows[name]:
                evaluate(bench, cases, records, progress=False)
            rows[name]['cases'] = len(cases) - 1
            if name == 'strong':
                with Spent(counts, args.images) as checks:
                    steps = args.steps or STEPS[name]
                    eps = DEFAULT_EPS[bench.score.name][0]
                    diagnose(bench, cases, records, bench.images, eps, steps, QUERIES, progress=False)
            records.close()
    rows['masking checks of strong'] = checks
    rows['full'] = planned(bench, args.steps, rows['strong'])
    print(f'{args.images} images of {tuple(dataset[bench.images[0]]["inputs"].shape)}, {bench.device}', end=', ')
    print(f'{torch.get_num_threads()} threads')
    print(table(rows))
    print(json.dumps({name: {key: round(value, 2) for key, value in row.items()} for name, row in rows.items()}))


def suite(name: str, bench: Bench, steps: int | None):
    pairs, fused, figure = bench.channels == 4, bench.fuser is not None, bench.score.name
    corruptions = corruption_names(pairs, Frames(bench.dataset).is_video(), is_installed())
    return make_suite(
        name,
        figure,
        DEFAULT_EPS[figure],
        fused=fused,
        pairs=pairs,
        steps=steps,
        class_weight=None if name in ('paper', 'trouble') else bench.class_weight(),
        corruptions=corruptions,
    )


def counted(model) -> dict[bool, int]:
    """Images that pass the backbone from now on, with gradients (True) and without."""
    counts = {True: 0, False: 0}

    def count(module, inputs):
        counts[torch.is_grad_enabled()] += len(inputs[0])

    model.backbone.register_forward_pre_hook(count)
    return counts


class Spent:
    """What is spent within, for each of so many images."""

    def __init__(self, counts: dict[bool, int], images: int):
        self.counts, self.images = counts, images

    def __enter__(self) -> dict:
        self.before, self.start, self.row = dict(self.counts), clock(), {}
        return self.row

    def __exit__(self, *error) -> None:
        seconds = clock() - self.start
        passes, looks = (self.counts[kind] - self.before[kind] for kind in (True, False))
        self.row |= {'passes': passes / self.images, 'forward': looks / self.images, 'seconds': seconds / self.images}


def planned(bench: Bench, steps: int | None, strong: dict) -> dict:
    """Of the suite ``full``: forward passes count as a third of a pass there, and in the seconds."""
    cases = suite('full', bench, steps)
    cases += smallest_radius_cases(steps=steps or STEPS['full'])
    passes = sum(case.passes for case in cases)
    seconds = strong['seconds'] / (strong['passes'] + strong['forward'] / 3)
    return {'cases': len(cases) - 1, 'passes': passes, 'seconds': passes * seconds}


def table(rows: dict) -> str:
    drawn = PrettyTable(['suite', 'attacks', 'forward and backward', 'forward alone', 's per image'])
    for name, row in rows.items():
        drawn.add_row(
            [name, *(f'{row[key]:.0f}' if key in row else '' for key in ('cases', 'passes', 'forward', 'seconds'))]
        )
    return drawn.get_string()


if __name__ == '__main__':
    main()
