"""Minimum-norm attacks against published ones: ``python benchmarks/smallest_radius.py CONFIG CHECKPOINT``.

Looks for the least L-inf change that makes 90 and 99 % of the pixels of a trained segmentor's test images wrong, by our
ALMA prox, PDPGD and DAG and by those of the authors' library (``pip install adv-lib``), in equally many steps. A result
counts where so many pixels are wrong when the model is asked again. Prints each radius as it is found, then one line of
JSON.
"""

import argparse
import json
import math
import statistics

import torch
from measuring import clock
from mmengine.registry import DATASETS
from torch import Tensor, nn

import paif_mm  # noqa: F401
from paif_mm.attacks import DAG, PDPGD, ALMAProx, Attack, PixelLoss, frozen
from paif_mm.attacks.objectives import pixel_logits
from paif_mm.engine.launch import load_model
from paif_mm.robustness.evaluate import Bench, evenly

ATTACKS = ('ALMA prox', 'PDPGD', 'DAG')
GAMMA = 0.5 / 255  # length of DAG's steps, the paper's


class Segmentor(nn.Module):
    """Logits of images (N, 4, H, W) in [0, 1], as the library takes models."""

    def __init__(self, model, batch: dict):
        super().__init__()
        self.model, self.samples = model, batch['data_samples']

    def forward(self, images: Tensor) -> Tensor:
        return pixel_logits(self.model, list(255 * images), self.samples, False)[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a trained segmentor')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--images', type=int, default=8, help='of the test set, evenly spaced (default: 8)')
    parser.add_argument('--steps', type=int, default=150)
    parser.add_argument('--shares', type=float, nargs='+', default=[0.9, 0.99], help='of the pixels (default: .9 .99)')
    parser.add_argument('--attacks', nargs='+', choices=ATTACKS, default=ATTACKS, help='default: all')
    args = parser.parse_args()
    from adv_lib.attacks import segmentation as published

    model, config = load_model(args.config, args.checkpoint)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    bench = Bench(model, dataset, evenly(len(dataset), args.images))
    found, seconds = {}, {}
    for i in bench.images:
        batch = bench.batch([dataset[i]])
        clean = torch.stack([image.to(bench.device).float() for image in batch['inputs']]) / 255
        batch['data_samples'] = [sample.to(bench.device) for sample in batch['data_samples']]
        segmentor = Segmentor(bench.model, batch)
        label = batch['data_samples'][0].gt_sem_seg.data
        asked = {'masks': label < bench.classes, 'labels': torch.where(label < bench.classes, label, 0)}
        for share in args.shares:
            for name, attack in attacks(published, share, args.steps).items():
                if name.split(',')[0] not in args.attacks:
                    continue
                start = clock()
                with frozen(bench.model):
                    images = attack(bench.model, batch, segmentor, clean, asked)
                spent = clock() - start
                seconds[name] = seconds.get(name, 0.0) + spent
                reached = radius(bench.model, batch, images.detach(), clean, share)
                found.setdefault((share, name), []).append(reached)
                print(f'image {i}, {share:.0%}, {name}: {reached:.3f}, {spent:.0f} s', flush=True)
    print(f'{args.steps} steps on {len(bench.images)} images, {bench.device}; radii /255')
    for (share, name), radii in found.items():
        reached = sum(math.isfinite(value) for value in radii)
        print(f'{share:.0%} {name}: median {statistics.median(radii):.2f}, reached on {reached} of {len(radii)}')
    rows = {f'{share} {name}': [round(value, 3) for value in radii] for (share, name), radii in found.items()}
    print(json.dumps({'radii': rows, 'seconds': {name: round(value, 1) for name, value in seconds.items()}}))


def attacks(published, share: float, steps: int) -> dict:
    """Name -> function of (model, batch, segmentor, clean, labels and masks) to images in [0, 1]."""

    def ours(attack: Attack):
        return lambda model, batch, segmentor, clean, asked: torch.stack(attack(model, batch).images) / 255

    def theirs(function, **settings):
        return lambda model, batch, segmentor, clean, asked: function(
            segmentor, clean, adv_threshold=share, **asked, **settings
        )

    linf = float('inf')
    return {
        'ALMA prox, here': ours(ALMAProx(share, steps=steps)),
        'PDPGD, here': ours(PDPGD(share, steps=steps)),
        'DAG, here': ours(DAG(share, steps=steps, step_size=GAMMA)),
        'ALMA prox, adv-lib': theirs(published.alma_prox, num_steps=steps),
        'PDPGD, adv-lib': theirs(published.pdpgd, num_steps=steps, norm=linf, constraint_masking=True),
        'DAG, adv-lib': theirs(published.dag, max_iter=steps, p=linf, **{'γ': GAMMA}),  # noqa: RUF001 (theirs)
    }


def radius(model, batch: dict, images: Tensor, clean: Tensor, share: float) -> float:
    """Of the only image, /255; infinite where too few pixels are wrong."""
    with frozen(model), torch.no_grad():
        wrong = PixelLoss()(model, list(255 * images), batch['data_samples'], list(255 * clean), False).harm
    return float((images - clean).abs().max() * 255) if float(wrong) >= share - 1e-6 else math.inf


if __name__ == '__main__':
    main()
