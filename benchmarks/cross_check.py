"""Ours against torchattacks' on a trained segmentor: ``python benchmarks/cross_check.py CONFIG CHECKPOINT``.

Attacks the same images one by one at equal steps, step sizes and numbers of restarts, and measures both results with
one function that knows neither. Ends with one JSON line.
"""

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchattacks
from mmengine.registry import DATASETS
from prettytable import PrettyTable
from torch import nn

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import fraction
from paif_mm.attacks import APGD, PGD
from paif_mm.engine.launch import load_model
from paif_mm.robustness.evaluate import evenly

IGNORED = 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='of an mmseg segmentor')
    parser.add_argument('checkpoint')
    parser.add_argument('--limit', type=int, default=8, help='images of the test set, evenly spaced (default: 8)')
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--eps', type=fraction, default=4 / 255)
    parser.add_argument('--seed', type=int, default=0, help='of the random starts')
    args = parser.parse_args()
    model, config = load_model(args.config, args.checkpoint)
    model.requires_grad_(False)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    places = evenly(len(dataset), args.limit)
    pairs = attacks(args)
    rows = {name: {'theirs': [], 'ours': []} for name in pairs}
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


def attacks(args) -> dict[str, dict]:
    """Name -> whose -> function of (segmentor, image, data item)."""
    eps, step, steps = args.eps, args.eps / 4, args.steps
    objective = {'type': 'PixelLoss', 'name': 'cross_entropy'}

    def pgd(segmentor, image, item):
        return torchattacks.PGD(segmentor, eps, step, steps)(image, segmentor.labels)

    def mifgsm(segmentor, image, item):
        return torchattacks.MIFGSM(segmentor, eps, step, steps)(image, segmentor.labels)

    def apgd(segmentor, image, item):
        attack = torchattacks.APGD(AsClassifier(segmentor).eval(), eps=eps, steps=steps)
        return attack.perturb(image, segmentor.labels.new_zeros(1), best_loss=True)[1]

    def ours(attack):
        def attacked(segmentor, image, item):
            batch = {'inputs': [item['inputs']], 'data_samples': [item['data_samples']]}
            return attack(segmentor.model, batch).images[0][None] / 255

        return attacked

    last = {'keep': 'last', 'objective': objective}
    return {
        'PGD': {'theirs': pgd, 'ours': ours(PGD(eps, step, steps, **last))},
        'MI-FGSM': {'theirs': mifgsm, 'ours': ours(PGD(eps, step, steps, random_start=False, momentum=1.0, **last))},
        'APGD': {'theirs': apgd, 'ours': ours(APGD(eps, steps, objective=objective))},
    }


def table(means: dict) -> str:
    drawn = PrettyTable(['attack', 'whose', 'wrong pixels, %', 'cross-entropy', 's per image'])
    for name, forms in means.items():
        for whose, (wrong, loss, seconds) in forms.items():
            drawn.add_row([name, whose, f'{100 * wrong:.2f}', f'{loss:.4f}', f'{seconds:.1f}'])
    return drawn.get_string()


if __name__ == '__main__':
    main()
