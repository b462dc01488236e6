"""Speed, memory and accuracy of the fusion network against its straightforward form, on a CPU (Linux).

    python benchmarks/fusion_forward.py [--size 480x640] [--repeats 3] [--threads 2]

Prints medians of interleaved repetitions, each form's peak memory, and the share of the eager forward's time that its
learned convolutions take when run alone. The last line is JSON: ``forward_ratio``, ``compiled_forward_ratio`` and
``forward_backward_ratio`` (gradients to inputs and parameters) are times relative to the straightforward form in
``tests/test_fusion/textbook.py``; the errors are the largest absolute differences from its float64 output.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'test_fusion')]

from textbook import textbook_fusion  # noqa: E402

from paif_mm.fusion import FusionNet  # noqa: E402

FORMS = ('textbook', 'eager', 'compiled')


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    forms, ir, vis = build(args.size)

    forward = {form: partial(run_forward, forms[form], ir, vis) for form in FORMS}
    convolutions = partial(run_forward, LearnedConvolutions(forms['eager'], ir, vis), ir, vis)
    for run in (*forward.values(), convolutions):
        run()  # compiles, loads kernels
    seconds = report('forward', forward | {'convolutions': convolutions}, args.repeats)
    both = {form: partial(run_forward_backward, forms[form], ir, vis) for form in ('textbook', 'eager')}
    seconds_both = report('forward + backward to inputs and parameters', both, args.repeats)
    attack = {form: partial(run, parameters=False) for form, run in both.items()}
    report('forward + backward to inputs only, as in an attack', attack, repeats=1)

    truth = run_forward(partial(textbook_fusion, copy.deepcopy(forms['eager']).double()), ir.double(), vis.double())
    errors = {form: (run().double() - truth).abs().max().item() for form, run in forward.items()}
    result = {
        'forward_ratio': seconds['eager'] / seconds['textbook'],
        'compiled_forward_ratio': seconds['compiled'] / seconds['textbook'],
        'forward_backward_ratio': seconds_both['eager'] / seconds_both['textbook'],
        'conv_share': seconds['convolutions'] / seconds['eager'],
        'error_vs_float64': max(errors['eager'], errors['compiled']),
        'textbook_error_vs_float64': errors['textbook'],
    }
    print(json.dumps({key: float(f'{value:.3g}') for key, value in result.items()}))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', default='480x640', help='height x width of the pair')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    return parser.parse_args()


def build(size: str) -> tuple[dict[str, Callable[[Tensor, Tensor], Tensor]], Tensor, Tensor]:
    """The three forms with the same weights, and a pair of smooth images with fine noise."""
    torch.manual_seed(0)
    eager = FusionNet().eval()
    compiled = FusionNet(compile=True).eval()
    compiled.load_state_dict(eager.state_dict())
    height, width = map(int, size.split('x'))
    coarse = torch.rand(2, 1, max(1, height // 40), max(1, width // 40))
    smooth = F.interpolate(coarse, (height, width), mode='bilinear')
    ir, vis = (0.95 * smooth + 0.05 * torch.rand_like(smooth)).split(1)
    return {'textbook': partial(textbook_fusion, eager), 'eager': eager, 'compiled': compiled}, ir, vis


def run_forward(form: Callable, ir: Tensor, vis: Tensor) -> Tensor:
    with torch.no_grad():
        return form(ir, vis)


def run_forward_backward(form: Callable, ir: Tensor, vis: Tensor, parameters: bool = True) -> None:
    network = form.args[0] if isinstance(form, partial) else form
    network.requires_grad_(parameters)
    inputs = [ir.clone().requires_grad_(), vis.clone().requires_grad_()]
    form(*inputs).sum().backward()
    network.zero_grad()
    network.requires_grad_(True)


def report(title: str, runs: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Print and return each run's median seconds; repetitions alternate between the runs."""
    seconds, peaks = {name: [] for name in runs}, {}
    for _ in range(repeats):
        for name, run in runs.items():
            memory = peak_memory()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
            peaks[name] = memory()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(title)
    for name, value in medians.items():
        print(
            f'  {name:12} {value:6.2f} s  {value / medians["textbook"]:.2f}x  peak memory {peaks[name]:5.0f} MiB',
            flush=True,
        )
    return medians


def peak_memory() -> Callable[[], float]:
    """Start watching this process's memory (Linux); the returned function gives the rise to its peak, in MiB."""
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = _memory('VmRSS')
    return lambda: (_memory('VmHWM') - before) / 1024


def _memory(field: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))  # kB


class LearnedConvolutions(TorchFunctionMode):
    """The convolutions that ``network(ir, vis)`` calls, run alone on the same inputs; box sums are not among them."""

    def __init__(self, network: FusionNet, ir: Tensor, vis: Tensor):
        super().__init__()
        self.calls = []
        with self:
            run_forward(network, ir, vis)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.conv2d, F.linear) and tuple(args[1].shape[1:]) != (1, 9, 9):  # not a box sum
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def __call__(self, *_) -> None:
        for func, args, kwargs in self.calls:
            func(*args, **kwargs)


if __name__ == '__main__':
    main()
