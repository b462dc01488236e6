"""What PGD-k costs beyond its k gradients: ``python benchmarks/attack_overhead.py [--size 240x320] [--steps 5]``.

Compares the attack, as the test tool runs it, with k forward and backward passes to the inputs of the same model,
written down by hand and run in a row, and with the passes that it makes itself: keeping the worst iterate takes one
more forward pass. Interleaved in one run; medians over the repeats of the ratios, on a CPU of the time of this process.
Ends with one JSON line.
"""

import argparse
import json
import statistics

import numpy as np
import torch
import torch.nn.functional as F
from measuring import clock, peak_of, prepared_device
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import paif_mm  # noqa: F401
from paif_mm.attacks import PGD, frozen

CONFIG = 'configs/_base_/models/segformer_mit-b0.py'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=CONFIG, help='a config with a fused segmentor')
    parser.add_argument('--size', default='240x320', help='height x width of the pair')
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, batch = build(args)
    attacks = {keep: PGD(eps=8 / 255, steps=args.steps, keep=keep) for keep in ('worst', 'last')}
    forms = {
        'bare': lambda: [gradient_by_hand(model, batch) for _ in range(args.steps)],
        'look': lambda: look_by_hand(model, batch),
        **{keep: lambda attack=attack: attack(model, batch) for keep, attack in attacks.items()},
    }
    seconds = {name: np.array(values) for name, values in rounds(forms, args.repeats).items()}

    bare = seconds['bare']
    ratios = {
        'overhead': seconds['worst'] / bare,
        'overhead_of_own_passes': seconds['worst'] / (bare + seconds['look']),
        'overhead_of_last': seconds['last'] / bare,
        'forward_share': args.steps * seconds['look'] / bare,
    }
    what = (
        f'attack that keeps the worst iterate (default) / {args.steps} forward and backward passes',
        'the same / these passes and the forward pass that looks at the last iterate',
        f'attack that keeps the last iterate / {args.steps} forward and backward passes',
        'forward pass / forward and backward pass',
    )
    print(f'PGD-{args.steps} on {args.config} at 1x{args.size}, {args.threads} threads, {args.repeats} repeats')
    for words, values in zip(what, ratios.values(), strict=True):
        print(f'{words}: {values.min():.3f} / {np.median(values):.3f} / {values.max():.3f} (min, median, max)')
    print('peak memory, MiB: ' + ', '.join(f'{name} {peak_of(form):.0f}' for name, form in forms.items()))
    print(json.dumps({name: round(float(np.median(values)), 4) for name, values in ratios.items()}))


def build(args):
    config = Config.fromfile(args.config)
    init_default_scope(config.get('default_scope', 'mmseg'))
    device = prepared_device()
    if device.type == 'cpu':
        config.model.decode_head.norm_cfg.type = 'BN'  # the synchronised one needs a GPU
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    height, width = map(int, args.size.split('x'))
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 9, (1, height, width))))
    return model.to(device), {'inputs': [torch.randint(0, 256, (4, height, width)).float()], 'data_samples': [sample]}


def gradient_by_hand(model, batch) -> tuple[torch.Tensor, ...]:
    """d cross-entropy / d pixels of each image, as anyone would write it."""
    device = next(model.parameters()).device
    pixels = [image.to(device, torch.float32, copy=True).requires_grad_() for image in batch['inputs']]
    with frozen(model):
        return torch.autograd.grad(loss_by_hand(model, pixels, batch), pixels)


@torch.no_grad()
def look_by_hand(model, batch) -> torch.Tensor:
    """Cross-entropy of the pixels, without a gradient."""
    return loss_by_hand(model, [image.to(next(model.parameters()).device) for image in batch['inputs']], batch)


def loss_by_hand(model, pixels: list[torch.Tensor], batch) -> torch.Tensor:
    label = torch.cat([sample.gt_sem_seg.data.to(pixels[0].device) for sample in batch['data_samples']])
    logits = model(**model.data_preprocessor({'inputs': pixels, 'data_samples': None}), mode='tensor')
    return F.cross_entropy(F.interpolate(logits, label.shape[-2:], mode='bilinear'), label)


def interleaved(forms: dict, repeats: int) -> dict[str, float]:
    """Median seconds of each form, all forms once per repeat, after one warm-up."""
    return {name: statistics.median(values) for name, values in rounds(forms, repeats).items()}


def rounds(forms: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of each form, all forms once per repeat, after one warm-up."""
    times = {name: [] for name in forms}
    for repeat in range(repeats + 1):
        for name, form in forms.items():
            start = clock()
            form()
            if repeat:
                times[name].append(clock() - start)
    return times


if __name__ == '__main__':
    main()
