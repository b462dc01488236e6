"""What PGD-k costs beyond its k gradients: ``python benchmarks/attack_overhead.py [--size 240x320] [--steps 5]``.

Compares the attack, as the test tool runs it, with k forward and backward passes to the inputs of the same model,
written down by hand and run in a row. Interleaved in one run; medians over the repeats. Ends with one JSON line.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
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
    forms = {'bare': lambda: [gradient_by_hand(model, batch) for _ in range(args.steps)]}
    forms.update({keep: lambda attack=attack: attack(model, batch) for keep, attack in attacks.items()})
    seconds = interleaved(forms, args.repeats)

    bare = seconds['bare']
    print(f'PGD-{args.steps} on {args.config} at 1x{args.size}, {args.threads} threads, medians of {args.repeats}')
    print(f'{args.steps} forward and backward passes to the inputs: {bare:.3f} s')
    for keep, what in (('worst', 'worst iterate kept, one more forward (default)'), ('last', 'last iterate kept')):
        print(f'attack, {what}: {seconds[keep]:.3f} s = {seconds[keep] / bare:.3f} x the passes')
    print(json.dumps({'overhead': round(seconds['worst'] / bare, 4)}))


def build(args):
    config = Config.fromfile(args.config)
    init_default_scope(config.get('default_scope', 'mmseg'))
    if not torch.cuda.is_available():
        config.model.decode_head.norm_cfg.type = 'BN'  # the synchronised one needs a GPU
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    height, width = map(int, args.size.split('x'))
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 9, (1, height, width))))
    return model.to(device), {'inputs': [torch.randint(0, 256, (4, height, width)).float()], 'data_samples': [sample]}


def gradient_by_hand(model, batch) -> torch.Tensor:
    """d cross-entropy / d pixels, as anyone would write it."""
    device = next(model.parameters()).device
    pixels = batch['inputs'][0].to(device, torch.float32, copy=True).requires_grad_()
    label = batch['data_samples'][0].gt_sem_seg.data.to(device)
    with frozen(model):
        logits = model(**model.data_preprocessor({'inputs': [pixels], 'data_samples': None}), mode='tensor')
        loss = F.cross_entropy(F.interpolate(logits, label.shape[-2:], mode='bilinear'), label)
        return torch.autograd.grad(loss, pixels)[0]


def interleaved(forms: dict, repeats: int, clock=time.perf_counter) -> dict[str, float]:
    """Median seconds of each form, all forms once per repeat, after one warm-up."""
    times = {name: [] for name in forms}
    for repeat in range(repeats + 1):
        for name, form in forms.items():
            start = clock()
            form()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == '__main__':
    main()
