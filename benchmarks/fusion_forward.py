"""Speed, memory and accuracy of the fusion network against its straightforward form, on a GPU or a CPU (Linux).

    python benchmarks/fusion_forward.py [--size 480x640] [--repeats 5] [--threads 1]

Prints each form's median time and peak memory over interleaved repetitions, and its ratio to the straightforward form
in ``tests/test_fusion/textbook.py`` in each repetition: smallest, median, largest. With one thread, times are those of
the process on its core, which other programs disturb least. The last line is JSON: the medians of the ratios of
``forward``, ``compiled_forward`` and ``forward_backward`` (gradients to inputs and parameters) and of peak memory, the
share of the eager forward's time that its learned convolutions take when run alone, and the largest absolute
differences from the straightforward form's float64 output. Repetitions in which the straightforward form took no memory
have no ratio; a figure that none has is null.
"""

import argparse
import copy
import json
import math
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'test_fusion')]

from measuring import clock, peak_memory, prepared_device  # noqa: E402
from textbook import textbook_fusion  # noqa: E402

from paif_mm.fusion import FusionNet  # noqa: E402

FORMS = ('textbook', 'eager', 'compiled', 'bf16')  # the first two are always measured


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    forms, ir, vis = build(args.size)

    forward = {form: partial(run_forward, forms[form], ir, vis) for form in args.forms}
    convolutions = partial(run_forward, LearnedConvolutions(forms['eager'], ir, vis), ir, vis)
    for run in (*forward.values(), convolutions):
        run()  # compiles, loads kernels
    times, memory = report('forward', forward | {'convolutions': convolutions}, args)
    both = {form: partial(run_forward_backward, forms[form], ir, vis) for form in args.backward}
    for run in both.values():
        run()
    times_both, memory_both = report('forward + backward to inputs and parameters', both, args)
    attack = {form: partial(both[form], parameters=False) for form in ('textbook', 'eager')}
    times_attack, _ = report('forward + backward to inputs only, as in an attack', attack, args)

    truth = run_forward(partial(textbook_fusion, copy.deepcopy(forms['eager']).double()), ir.double(), vis.double())
    errors = {form: (run().double() - truth).abs().max().item() for form, run in forward.items()}
    result = {}
    for form, name in (('eager', ''), ('compiled', 'compiled_'), ('bf16', 'bf16_')):
        for passes, ratios in (('forward', times), ('forward_backward', times_both)):
            if form in ratios:
                result[f'{name}{passes}_ratio'] = ratios[form]
    result['attack_ratio'] = times_attack['eager']
    result['memory_ratio'] = memory['eager']
    result['forward_backward_memory_ratio'] = memory_both['eager']
    result['conv_share'] = times['convolutions'] / times['eager']
    result['error_vs_float64'] = max(error for form, error in errors.items() if form in ('eager', 'compiled'))
    result['textbook_error_vs_float64'] = errors['textbook']
    if 'bf16' in errors:
        result['bf16_error_vs_float64'] = errors['bf16']
    print(json.dumps({key: float(f'{value:.3g}') if math.isfinite(value) else None for key, value in result.items()}))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', default='480x640', help='height x width of the pair')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--forms', nargs='+', choices=FORMS, default=FORMS[:3], help='of the forward pass')
    parser.add_argument('--backward', nargs='+', choices=FORMS, default=FORMS[:2], help='of forward and backward')
    args = parser.parse_args()
    for name in ('forms', 'backward'):
        chosen = {*getattr(args, name), 'textbook', 'eager'}
        setattr(args, name, [form for form in FORMS if form in chosen])
    return args


def build(size: str) -> tuple[dict[str, Callable[[Tensor, Tensor], Tensor]], Tensor, Tensor]:
    """The forms with the same weights, and a pair of smooth images with fine noise."""
    device = prepared_device()
    torch.manual_seed(0)
    eager = FusionNet().eval().to(device)
    compiled = FusionNet(compile=True).eval().to(device)
    compiled.load_state_dict(eager.state_dict())
    height, width = map(int, size.split('x'))
    coarse = torch.rand(2, 1, max(1, height // 40), max(1, width // 40))
    smooth = F.interpolate(coarse, (height, width), mode='bilinear')
    ir, vis = (0.95 * smooth + 0.05 * torch.rand_like(smooth)).to(device).split(1)
    return (
        dict(zip(FORMS, (partial(textbook_fusion, eager), eager, compiled, partial(in_bf16, eager)), strict=True)),
        ir,
        vis,
    )


def in_bf16(network: FusionNet, ir: Tensor, vis: Tensor) -> Tensor:
    with torch.autocast(ir.device.type, torch.bfloat16):
        return network(ir, vis)


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


def report(title: str, runs: dict[str, Callable], args: argparse.Namespace) -> tuple[dict, dict]:
    """Print each run's figures; return the medians of its time and peak memory relative to the textbook form's."""
    now = partial(clock, of_process=args.threads == 1)
    seconds, peaks = ({name: [] for name in runs} for _ in range(2))
    for _ in range(args.repeats):
        for name, run in runs.items():
            memory = peak_memory()
            start = now()
            run()
            seconds[name].append(now() - start)
            peaks[name].append(memory())
    print(title)
    medians = []
    for values, unit, scale in ((seconds, 'ms', 1000), (peaks, 'MiB', 1)):
        pairs = {name: zip(values[name], values['textbook'], strict=True) for name in runs}
        # of tiny images memory may not rise at all
        ratios = {name: [a / b if b else math.nan for a, b in each] for name, each in pairs.items()}
        spreads = {name: spread(ratio) for name, ratio in ratios.items()}
        medians.append({name: median for name, (_, median, _) in spreads.items()})
        for name, numbers in spreads.items():
            shown = ' '.join(f'{number:.3f}' for number in numbers)
            print(f'  {name:12} {scale * statistics.median(values[name]):8.1f} {unit:3}  x {shown}', flush=True)
    return medians[0], medians[1]


def spread(values: list[float]) -> tuple[float, float, float]:
    """Smallest, median and largest of the finite ones; NaN where there are none."""
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    return min(finite), statistics.median(finite), max(finite)


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
