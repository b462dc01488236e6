"""Which form of the fusion loss gives the better fused image: ``python benchmarks/fusion_loss_forms.py [--pairs 8]``.

Optimises the pixels of the fused luminance themselves under each form of the loss, from mid-gray and for equally many
steps, so that no network stands between the loss and the image it asks for. The pairs are spread evenly over
``msrs_half/val`` (neighbours are nearly the same frame). Prints means over the pairs, beside those of the target
t = M_x x + M_y y and of both sources:

* ``brightness``: mean luminance, relative to the target's;
* ``ssim_ir``, ``ssim_vis``, ``ssim_target``: structural similarity;
* ``entropy``: of the 256-level histogram, bits;
* ``spatial_frequency``, ``average_gradient``: contrast between neighbouring pixels, on the scale of 0 to 255.

The loss of 'target' is 0 at t, so that its row should equal t's. ``last_tenth`` is by how much the loss still fell in
the last tenth of the steps. Ends with one JSON line.

``--precision`` times the loss and its gradient instead, with its SSIM in fp64, as on CUDA, and in fp32, as on a CPU, in
turns: ``fp64_ratio`` is the first median over the second.
"""

import argparse
import json
import math
import os
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from attack_overhead import interleaved
from measuring import prepared_device
from pytorch_msssim import ssim
from torch import Tensor

from paif_mm.data import LoadPairFromFile
from paif_mm.data.colour import bgr_to_luma, split_pair
from paif_mm.losses import fusion, fusion_loss, saliency_weights

FORMS = ('target', 'paper')
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    ir, vis = load_pairs(args.root, args.pairs)
    if args.precision:
        return compare_precisions(ir, vis)
    weight_ir, weight_vis = saliency_weights(ir, vis)
    target = weight_ir * ir + weight_vis * vis

    images, cost = {'ir': ir, 'vis': vis, 't': target}, {}
    for form in FORMS:
        images[form], cost[form] = optimise(form, ir, vis, args.steps, args.lr)
    table = {name: describe(image, ir, vis, target) for name, image in images.items()}

    print(f'{args.pairs} pairs of {ir.size(-2)}x{ir.size(-1)}, {args.steps} steps of Adam, {args.threads} threads')
    print(f'{"":8}' + ''.join(f'{key:>19}' for key in table['t']))
    for name, row in table.items():
        print(f'{name:8}' + ''.join(f'{value:19.4f}' for value in row.values()))
    for form, values in cost.items():
        print(f"form '{form}': " + ', '.join(f'{key} {value:.4g}' for key, value in values.items()))
    rounded = {form: {key: round(value, 4) for key, value in (table[form] | cost[form]).items()} for form in FORMS}
    print(json.dumps(rounded))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get('PAIF_MM_DATA', ROOT.parent / 'shared' / 'data')
    parser.add_argument('--root', type=Path, default=default, help='holds msrs_half/val (default: $PAIF_MM_DATA)')
    parser.add_argument('--pairs', type=int, default=8)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--lr', type=float, default=0.02, help='at the start; falls linearly to 0')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--precision', action='store_true', help='compare the times of its SSIM in fp64 and in fp32')
    args = parser.parse_args()
    if not (args.root / 'msrs_half' / 'val' / 'vi').is_dir():
        parser.error(f'no pairs in {args.root}/msrs_half/val/{{vi,ir}}: give --root or set PAIF_MM_DATA')
    return args


def load_pairs(root: Path, number: int) -> tuple[Tensor, Tensor]:
    """Infrared and visible luminance of pairs spread over the validation set, (number, 1, H, W) in [0, 1] each."""
    files = sorted((root / 'msrs_half' / 'val' / 'vi').iterdir())
    if not 1 <= number <= len(files):
        raise SystemExit(f'--pairs must be 1 to {len(files)}, not {number}')
    load = LoadPairFromFile()
    pairs = []
    for file in (files[i * len(files) // number] for i in range(number)):
        image = load({'img_path': str(file), 'ir_path': str(file.parents[1] / 'ir' / file.name)})['img']
        pairs.append(torch.from_numpy(image).permute(2, 0, 1).float() / 255)
    ir, visible = split_pair(torch.stack(pairs))
    return ir, bgr_to_luma(visible)


def optimise(form: str, ir: Tensor, vis: Tensor, steps: int, lr: float) -> tuple[Tensor, dict[str, float]]:
    """The fused luminance that the form asks for, and what finding it took."""
    fused = torch.full_like(ir, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([fused], lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 1 / steps, steps)
    losses, start = [], time.perf_counter()
    for _ in range(steps):
        loss = fusion_loss(fused, ir, vis, form, reduction='none').sum()  # the pairs do not influence each other
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            fused.clamp_(0, 1)
        losses.append(loss.item() / len(ir))
    seconds = (time.perf_counter() - start) / steps
    last_tenth = losses[-1 - steps // 10] - losses[-1]
    return fused.detach(), {'loss': losses[-1], 'last_tenth': last_tenth, 'seconds_per_step': seconds}


def compare_precisions(ir: Tensor, vis: Tensor, repeats: int = 15) -> None:
    device = prepared_device()
    fused, ir, vis = (image.to(device) for image in ((ir + vis) / 2, ir, vis))

    def gradient(dtype: torch.dtype) -> Tensor:
        points = fused.clone().requires_grad_()
        with patch.object(fusion, '_exact', lambda *images: [image.to(dtype) for image in images]):
            return torch.autograd.grad(fusion_loss(points, ir, vis), points)[0]

    forms = {f'fp{dtype.itemsize * 8}': partial(gradient, dtype) for dtype in (torch.float32, torch.float64)}
    seconds = interleaved(forms, repeats)
    print(f'{len(ir)} pairs of {ir.size(-2)}x{ir.size(-1)} on {device}, medians of {repeats}: ', end='')
    print(', '.join(f'{name} {value * 1e3:.1f} ms' for name, value in seconds.items()))
    print(json.dumps({'fp64_ratio': round(seconds['fp64'] / seconds['fp32'], 3)}))


def describe(image: Tensor, ir: Tensor, vis: Tensor, target: Tensor) -> dict[str, float]:
    """Means over the images of every figure that the table shows."""
    right, down = image.diff(dim=-1) * 255, image.diff(dim=-2) * 255
    figures = {
        'brightness': image.mean((1, 2, 3)) / target.mean((1, 2, 3)),
        **{
            f'ssim_{name}': ssim(image, other, data_range=1, size_average=False)
            for name, other in (('ir', ir), ('vis', vis), ('target', target))
        },
        'entropy': torch.stack([entropy(one) for one in image]),
        'spatial_frequency': (right.square().mean((1, 2, 3)) + down.square().mean((1, 2, 3))).sqrt(),
        'average_gradient': ((right[..., :-1, :].square() + down[..., :-1].square()) / 2).sqrt().mean((1, 2, 3)),
    }
    return {name: values.mean().item() for name, values in figures.items()}


def entropy(image: Tensor) -> Tensor:
    """Entropy of one image's histogram, bits."""
    share = torch.bincount((image * 255).round().long().flatten(), minlength=256).double() / image.numel()
    return -torch.special.xlogy(share, share).sum() / math.log(2)


if __name__ == '__main__':
    main()
