"""Ours against published attacks on a trained segmentor: ``python benchmarks/cross_check.py CONFIG CHECKPOINT``.

Attacks the same images one by one at equal steps, step sizes and numbers of restarts, and measures both results with
one function that knows neither. Theirs: torchattacks, cospgd, and SEA by its paper (``benchmarks/sea.py``). Ends with
one JSON line.
"""

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchattacks
from cospgd import functions as cospgd
from mmengine.registry import DATASETS
from prettytable import PrettyTable
from sea import LOSSES, sea, sea_loss
from torch import nn

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import fraction
from paif_mm.attacks import APGD, PGD
from paif_mm.engine.launch import load_model
from paif_mm.robustness.evaluate import Bench, evenly

IGNORED = 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='of an mmseg segmentor')
    parser.add_argument('checkpoint')
    parser.add_argument('--limit', type=int, default=8, help='images of the test set, evenly spaced (default: 8)')
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--eps', type=fraction, default=4 / 255)
    parser.add_argument('--seed', type=int, default=0, help='of the random starts')
    parser.add_argument('--attacks', nargs='+', help='names of the first column (default: all)')
    args = parser.parse_args()
    model, config = load_model(args.config, args.checkpoint)
    model.requires_grad_(False)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    places = evenly(len(dataset), args.limit)
    pairs = attacks(args, Bench(model, dataset, places).class_weight())
    pairs = {name: pairs[name] for name in args.attacks or pairs}
    rows = {name: {whose: [] for whose in forms} for name, forms in pairs.items()}
    rows = {'clean': {'model': []}, **rows}
    for place in places:
        item = dataset[place]
        segmentor = Segmentor(model, item['data_samples']).eval()  # torchattacks restores the mode it finds
        image = item['inputs'][None].to(segmentor.labels.device).float() / 255  # (1, C, H, W)
        rows['clean']['model'].append((*segmentor.measure(image), 0.0))
        for name, forms in pairs.items():
            for whose, form in forms.items():
                torch.manual_seed(args.seed + place)
                start = time.perf_counter()
                attacked = form(segmentor, image, item)
                seconds = time.perf_counter() - start
                assert (attacked - image).abs().max() <= args.eps + 1e-6
                rows[name][whose].append((*segmentor.measure(attacked), seconds))
    means = {name: {whose: np.mean(v, 0) for whose, v in forms.items()} for name, forms in rows.items()}
    print(f'{args.config}, {len(places)} images, {args.steps} steps, eps {255 * args.eps:g}/255')
    print(table(means))
    summary = {
        name: {whose: {'wrong': round(v[0], 4), 'loss': round(v[1], 4)} for whose, v in forms.items()}
        for name, forms in means.items()
    }
    print(json.dumps(summary))


class Segmentor(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logits (N, K, h, w) at the size of one sample's labels."""

    def __init__(self, model, sample):
        super().__init__()
        self.model = model
        labels = sample.gt_sem_seg.data.long().to(next(model.parameters()).device)  # (1, h, w)
        self.labels = torch.where(labels == IGNORED, -100, labels)  # what torch's cross-entropy ignores

    def forward(self, images):
        data = self.model.data_preprocessor({'inputs': list(255 * images), 'data_samples': None}, False)
        logits = self.model(**data, mode='tensor')
        size = self.labels.shape[-2:]
        return F.interpolate(logits, size, mode='bilinear', align_corners=self.model.align_corners)

    def loss(self, images):
        return F.cross_entropy(self(images), self.labels)

    @torch.no_grad()
    def measure(self, image) -> tuple[float, float]:
        """Share of wrong pixels among the labelled ones, and their mean cross-entropy."""
        labelled = self.labels >= 0
        wrong = (self(image).argmax(1) != self.labels)[labelled].double().mean()
        return float(wrong), float(self.loss(image))


class AsClassifier(nn.Module):
    """Two logits of an image whose cross-entropy for class 0 is the mean of its pixels': what APGD asks for."""

    def __init__(self, segmentor: Segmentor):
        super().__init__()
        self.segmentor = segmentor

    def forward(self, images):
        second = self.segmentor.loss(images).expm1().log()
        return torch.stack([torch.zeros_like(second), second])[None]


def attacks(args, class_weight: list[float]) -> dict[str, dict]:
    """Name -> whose -> function of (segmentor, image, data item); the weights are those of SEA's balanced loss."""
    eps, step, steps = args.eps, args.eps / 4, args.steps

    def pgd(segmentor, image, item):
        return torchattacks.PGD(segmentor, eps, step, steps)(image, segmentor.labels)

    def mifgsm(segmentor, image, item):
        return torchattacks.MIFGSM(segmentor, eps, step, steps)(image, segmentor.labels)

    def apgd(segmentor, image, item):
        attack = torchattacks.APGD(AsClassifier(segmentor).eval(), eps=eps, steps=steps)
        return attack.perturb(image, segmentor.labels.new_zeros(1), best_loss=True)[1]

    def scaled(scale):
        """Steps of cospgd's own making, from the image itself."""

        def attacked(segmentor, image, item):
            points = image.clone()
            for step_count in range(steps):
                points.requires_grad_()
                logits = segmentor(points)
                losses = F.cross_entropy(logits, segmentor.labels, reduction='none')
                losses = scale(logits, segmentor.labels.clamp_min(0), losses, step_count)
                (gradient,) = torch.autograd.grad(losses.sum(), points)
                points = cospgd.step_inf(points, eps, gradient, image, step, targeted=False)
            return points

        return attacked

    def by_paper(name):
        def attacked(segmentor, image, item):
            label, weights = segmentor.labels[0], torch.tensor(class_weight, device=image.device)
            start = 255 * image[0] + 2 * 255 * eps * torch.empty_like(image[0]).uniform_(-1, 1)
            found = sea(
                lambda x: segmentor(x[None] / 255)[0],
                255 * image[0],
                label,
                255 * eps,
                steps,
                lambda logits: sea_loss(name, logits, label, weights),
                start,
            )
            return found[None] / 255

        return attacked

    def ours(attack):
        def attacked(segmentor, image, item):
            batch = {'inputs': [item['inputs']], 'data_samples': [item['data_samples']]}
            return attack(segmentor.model, batch).images[0][None] / 255

        return attacked

    def of(loss, **more):
        return {'type': 'PixelLoss', 'name': loss, **more}

    def descent(loss, **settings):
        return ours(PGD(eps, step, steps, keep='last', objective=of(loss), **settings))

    pairs = {
        'PGD': {'torchattacks': pgd, 'ours': descent('cross_entropy')},
        'MI-FGSM': {'torchattacks': mifgsm, 'ours': descent('cross_entropy', random_start=False, momentum=1.0)},
        'APGD': {'torchattacks': apgd, 'ours': ours(APGD(eps, steps, objective=of('cross_entropy')))},
        'SegPGD': {
            'cospgd': scaled(lambda z, y, losses, t: cospgd.segpgd_scale(z, y, losses, t, steps)),
            'ours': descent('segpgd', random_start=False),
        },
        'CosPGD': {
            'cospgd': scaled(lambda z, y, losses, t: cospgd.cospgd_scale(z, y, losses, num_classes=z.size(1))),
            'ours': descent('cospgd', random_start=False),
        },
    }
    for name in LOSSES:
        weights = {'class_weight': class_weight} if name == 'balanced_cross_entropy' else {}
        mine = ours(APGD(eps, steps, large_radii=True, objective=of(name, **weights)))
        pairs[f'SEA, {name}'] = {'by the paper': by_paper(name), 'ours': mine}
    return pairs


def table(means: dict) -> str:
    drawn = PrettyTable(['attack', 'whose', 'wrong pixels, %', 'cross-entropy', 's per image'])
    for name, forms in means.items():
        for whose, (wrong, loss, seconds) in forms.items():
            drawn.add_row([name, whose, f'{100 * wrong:.2f}', f'{loss:.4f}', f'{seconds:.1f}'])
    return drawn.get_string()


if __name__ == '__main__':
    main()
