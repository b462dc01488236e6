"""What the fusion networks cost: the efficiency columns of the PAIF paper's Table 2, and more.

    python benchmarks/fusion_zoo.py [--size 480x640] [--repeats 5] [--networks SDNet SeAFusion] [--threads 1]

Prints parameters, floating-point operations, and the median latency and peak memory of a forward pass of one pair of
each network, on a GPU if there is one (Linux otherwise). With one thread, times are those of the process on its core,
which other programs disturb least. U2Fusion and SDNet are also compared with straightforward forms
(``tests/test_fusion/zoo_textbook.py``), a pass of each in turns. The last line is JSON: each network's figures, and
``ratio``: the median of the ratios of the times of these two.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'test_fusion')]

from measuring import clock, peak_of, prepared_device  # noqa: E402
from zoo_textbook import TEXTBOOK  # noqa: E402

from paif_mm.arguments import positive, size  # noqa: E402
from paif_mm.evaluation.flops import count_flops  # noqa: E402
from paif_mm.fusion import NETWORKS, FusionNet  # noqa: E402

FORMS = {'FusionNet': FusionNet, **NETWORKS}  # PAIF's own first
COMPARED = ('U2Fusion', 'SDNet')


@torch.no_grad()
def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = prepared_device()
    threads = f'{args.threads} thread{"s" * (args.threads > 1)}'
    print(f'one pair of {args.size[0]}x{args.size[1]} on {device}, {threads}; two operations a multiply-add')
    print(f'{"network":10} {"parameters":>10} {"GFLOPs":>8} {"ms":>9} {"MiB":>8}  x textbook')
    found = {}
    for name in args.networks:
        row = found[name] = measured(name, args, device)
        ratio = f'{row["ratio"]:12.3f}' if 'ratio' in row else ''
        print(
            f'{name:10} {row["params"]:10,} {row["gflops"]:8.1f} {row["ms"]:9.1f} {row["mib"]:8.1f}{ratio}', flush=True
        )
    print(json.dumps(found))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=size, default=(480, 640), help='height x width (default: 480x640)')
    parser.add_argument('--repeats', type=positive, default=5)
    parser.add_argument('--networks', nargs='+', choices=FORMS, default=list(FORMS), metavar='NETWORK')
    parser.add_argument('--threads', type=positive, default=1)
    return parser.parse_args()


def measured(name: str, args: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """One network's figures."""
    torch.manual_seed(0)
    network = FORMS[name]().eval().to(device)
    pair = torch.rand(2, 1, 1, *args.size, device=device).unbind()
    forward = partial(network, *pair)
    with count_flops() as counter:
        forward()
    memory = peak_of(forward)
    runs: dict[str, Callable] = {'ours': forward}
    if name in COMPARED:
        runs['textbook'] = partial(TEXTBOOK[name], network, *pair)
        runs['textbook']()
    times = {run: [] for run in runs}
    for _ in range(args.repeats):
        for run, step in runs.items():
            start = clock(of_process=args.threads == 1)
            step()
            times[run].append(clock(of_process=args.threads == 1) - start)
    row = {
        'params': sum(p.numel() for p in network.parameters()),
        'gflops': round(counter.get_total_flops() / 1e9, 2),
        'ms': round(statistics.median(times['ours']) * 1e3, 1),
        'mib': round(memory, 1),
    }
    if 'textbook' in times:
        ratios = [ours / theirs for ours, theirs in zip(times['ours'], times['textbook'], strict=True)]
        row['ratio'] = round(statistics.median(ratios), 4)
    return row


if __name__ == '__main__':
    main()
