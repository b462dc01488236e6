"""What a meta-step costs beyond its passes: ``python benchmarks/meta_step.py [--size 128x160] [--inner-steps 10]``.

Compares one meta-gradient over the scenes, first and second order, with scenes x (inner steps + 1) plain forward and
backward passes of the fusion network on the same batches. Interleaved in one run; medians over the repeats; peak memory
at two numbers of inner steps (Linux). Then it reads the batches of a meta-iteration from a bank of pairs of twice the
height and width, from its images and from their decoded pixels. Ends with one JSON line: ``first_order_ratio``,
``second_order_ratio``, and ``bank_ratio``, the time of reading pixels to that of reading images.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from attack_overhead import interleaved
from measuring import peak_of, prepared_device

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from test_meta_init.banks import noise_bank  # noqa: E402

from paif_mm.attacks import AttackBank  # noqa: E402
from paif_mm.fusion import FusionNet  # noqa: E402
from paif_mm.losses import FusionLoss  # noqa: E402
from paif_mm.meta_init import MetaBatches, Scene, functional_loss, meta_gradient  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--size', default='128x160', help='height x width of the pairs')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--channels', type=int, default=8)
    parser.add_argument('--inner-steps', type=int, default=10)
    parser.add_argument('--scenes', type=int, default=3)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    size = tuple(map(int, args.size.split('x')))
    device = prepared_device()
    network = FusionNet(channels=args.channels).train().to(device)
    weights = dict(network.named_parameters())
    images = torch.rand(4, args.batch, 1, *size, device=device)
    passes = args.scenes * (args.inner_steps + 1)
    loss_module = FusionLoss()
    loss = functional_loss(network, images[:2], lambda fused: loss_module(fused, *images[2:]))

    def scenes(inner_steps: int) -> list[Scene]:
        return [Scene([loss] * inner_steps, loss) for _ in range(args.scenes)]

    def plain() -> None:
        for _ in range(passes):
            loss_module(network(*images[:2]), *images[2:]).backward()
        network.zero_grad()

    def step(second_order: bool, inner_steps: int = args.inner_steps) -> None:
        meta_gradient(weights, scenes(inner_steps), 1e-4, second_order)

    seconds = interleaved(
        {'plain': plain, 'first order': lambda: step(False), 'second order': lambda: step(True)}, args.repeats
    )
    print(f'{args.scenes} scenes, {args.inner_steps} inner steps, {args.batch} pairs of {args.size}')
    for name, value in seconds.items():
        print(f'{name:13} {value:6.2f} s = {value / seconds["plain"]:.2f} x {passes} forward and backward passes')
    for second_order in (False, True):
        peaks = [peak_of(lambda n=n, order=second_order: step(order, n)) for n in (1, args.inner_steps)]
        order = 'second' if second_order else 'first'
        print(
            f'{order} order, peak memory with 1 and {args.inner_steps} inner steps: {peaks[0]:.0f}, {peaks[1]:.0f} MiB'
        )
    reading = bank_seconds(args, size)
    for form, value in reading.items():
        print(f'reading the bank, {form}: {value:.4f} s = {value / seconds["first order"]:.4f} of a first-order step')
    ratios = {f'{order}_order_ratio': seconds[f'{order} order'] / seconds['plain'] for order in ('first', 'second')}
    ratios['bank_ratio'] = reading['pixels'] / reading['images']
    print(json.dumps({name: round(value, 4) for name, value in ratios.items()}))


def bank_seconds(args, size: tuple[int, int]) -> dict[str, float]:
    """Median seconds in which one process reads the batches of a meta-iteration, in both ways."""
    with tempfile.TemporaryDirectory() as folder:
        images = noise_bank(Path(folder), count=12, size=(2 * size[0], 2 * size[1]))
        pixels = AttackBank(folder)
        pixels.unpack()
        forms = {}
        for name, bank in (('images', images), ('pixels', pixels)):
            batches = MetaBatches(bank, args.inner_steps, args.batch, size, args.scenes > 3, length=1)
            forms[name] = lambda batches=batches: batches[0]
        return interleaved(forms, args.repeats)


if __name__ == '__main__':
    main()
