"""Ours against published attacks on a trained segmentor: ``python benchmarks/cross_check.py CONFIG CHECKPOINT``.

Attacks the same images one by one at equal steps, step sizes and numbers of restarts, and measures both results with
one function that knows neither. Theirs: torchattacks, cospgd, and SEA by its paper (``benchmarks/sea.py``). Differences
are paired by image, with their standard error over images. ``--iterates`` asks instead whether both Auto-PGDs are one
algorithm: the losses of all their iterates from one start, in double precision. Ends with one JSON line.
"""

import argparse
import json
import time
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
import torchattacks
from cospgd import functions as cospgd
from mmengine.registry import DATASETS
from mmengine.structures import PixelData
from prettytable import PrettyTable
from sea import LOSSES, sea, sea_loss
from torch import nn

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import fraction
from paif_mm.attacks import APGD, PGD, Budget, PixelLoss, auto_pgd
from paif_mm.engine.launch import load_model
from paif_mm.registry import OBJECTIVES
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
    parser.add_argument('--starts', type=int, default=1, help='seeds in a row (default: 1)')
    parser.add_argument('--crop', type=int, nargs=2, metavar=('H', 'W'), help='only the middle of each image')
    parser.add_argument('--attacks', nargs='+', help='names of the first column (default: all)')
    parser.add_argument('--iterates', action='store_true', help='compare the steps of both Auto-PGDs, nothing else')
    args = parser.parse_args()
    model, config = load_model(args.config, args.checkpoint)
    model.requires_grad_(False)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    places = evenly(len(dataset), args.limit)
    items = {place: cropped(dataset[place], args.crop) for place in places}
    print(f'{args.config}, {len(places)} images, {args.steps} steps, eps {255 * args.eps:g}/255')
    if args.iterates:
        return compare_iterates(model.double(), items, args)
    pairs = attacks(args, Bench(model, dataset, places).class_weight())
    pairs = {name: pairs[name] for name in args.attacks or pairs}
    rows = {name: {whose: [] for whose in forms} for name, forms in {'clean': {'model': None}, **pairs}.items()}
    for place, item in items.items():
        segmentor = Segmentor(model, item['data_samples']).eval()  # torchattacks restores the mode it finds
        image = item['inputs'][None].to(segmentor.labels.device).float() / 255  # (1, C, H, W)
        rows['clean']['model'].append((*segmentor.measure(image), 0.0))
        for name, forms in pairs.items():
            for whose, form in forms.items():
                found = [attacked(form, segmentor, image, item, args, seed + place) for seed in seeds(args)]
                rows[name][whose].append(np.mean(found, 0))
    print(table(rows))
    means = {name: {whose: np.mean(v, 0) for whose, v in forms.items()} for name, forms in rows.items()}
    summary = {
        name: {whose: {'wrong': round(v[0], 4), 'loss': round(v[1], 4)} for whose, v in forms.items()}
        for name, forms in means.items()
    }
    print(json.dumps(summary))


def seeds(args) -> range:
    return range(args.seed, args.seed + args.starts)


def cropped(item: dict, size: tuple[int, int] | None) -> dict:
    """The middle of a data item, so many rows and columns."""
    if size is None:
        return item
    sample, labels = item['data_samples'], item['data_samples'].gt_sem_seg.data
    top, left = ((whole - part) // 2 for whole, part in zip(labels.shape[-2:], size, strict=True))
    middle = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    sample.gt_sem_seg = PixelData(data=labels[middle])
    sample.set_metainfo({key: tuple(size) for key in ('img_shape', 'ori_shape')})
    return {**item, 'inputs': item['inputs'][middle].contiguous()}


def attacked(form, segmentor, image, item, args, seed: int) -> tuple[float, float, float]:
    """Wrong pixels, cross-entropy and seconds of one attack."""
    torch.manual_seed(seed)
    start = time.perf_counter()
    found = form(segmentor, image, item)
    seconds = time.perf_counter() - start
    assert (found - image).abs().max() <= args.eps + 1e-6
    return (*segmentor.measure(found), seconds)


def compare_iterates(model, items: dict, args) -> None:
    """The largest relative difference of the losses of both Auto-PGDs' iterates, on each image and over all.

    Theirs stretches the noise of its start until one value touches the ball, and halves its step also where exactly
    three quarters of the steps rose: ours are given that start and that rule.
    """
    largest = {}
    torch.set_default_dtype(torch.float64)  # of what torchattacks makes itself
    for place, item in items.items():
        segmentor = Segmentor(model, item['data_samples']).eval()
        image = item['inputs'][None].to(segmentor.labels.device).double() / 255
        noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(args.seed + place))
        noise = (2 * noise - 1).to(image.device)
        noise /= noise.abs().max()
        theirs, ours = [], []

        def watched(points, losses):
            losses.append(segmentor.loss(points))  # noqa: B023 (called before the next image)
            return losses[-1]

        classifier = AsClassifier(segmentor, lambda points: watched(points, theirs)).eval()  # noqa: B023
        with mock.patch('torch.rand', lambda *_: (noise + 1) / 2):  # noqa: B023
            attack = torchattacks.APGD(classifier, eps=args.eps, steps=args.steps)
            attack.perturb(image, segmentor.labels.new_zeros(1), best_loss=True)
        with (
            mock.patch('paif_mm.attacks.functional.drawn', lambda *_: noise[0]),  # noqa: B023
            mock.patch('paif_mm.attacks.auto_pgd.LEAST_SUCCESS', 0.75 + 1e-6),
        ):
            auto_pgd(
                lambda points, _: watched(torch.stack(points) / 255, ours)[None],  # noqa: B023
                [255 * image[0]],
                [Budget(slice(None), 255 * args.eps, 0.0)],
                args.steps,
            )
        theirs = theirs[1:]  # they look at the clean image first
        assert len(ours) == len(theirs) == args.steps + 1
        largest[place] = max(abs(a.item() - b.item()) / b.item() for a, b in zip(ours, theirs, strict=True))
        print(f'image {place}: {args.steps + 1} losses, which part by {largest[place]:.1e} at most', flush=True)
    print(json.dumps({'largest_relative_difference': max(largest.values())}))


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

    def __init__(self, segmentor: Segmentor, loss=None):
        super().__init__()
        self.segmentor, self.loss = segmentor, loss or segmentor.loss

    def forward(self, images):
        second = self.loss(images).expm1().log()
        return torch.stack([torch.zeros_like(second), second])[None]


@OBJECTIVES.register_module()
class LossAlone(PixelLoss):
    """As torchattacks has it: an iterate is as bad as its loss, and no image is ever given up."""

    greatest_harm = None

    def __call__(self, *args, **settings):
        return super().__call__(*args, **settings).loss


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
        'APGD': {
            'torchattacks': apgd,
            'ours': ours(APGD(eps, steps, objective=of('cross_entropy'))),
            'ours, by loss': ours(APGD(eps, steps, objective={'type': 'LossAlone', 'name': 'cross_entropy'})),
        },
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


def table(rows: dict) -> str:
    """Means over images; also what a form has more than the first one, with the standard error over images."""
    head = ['attack', 'whose', 'wrong pixels, %', 'wrong, more', 'cross-entropy', 'cross-entropy, more', 's per image']
    drawn = PrettyTable(head)
    for name, forms in rows.items():
        first = np.array(next(iter(forms.values())))
        for whose, found in forms.items():
            wrong, loss, seconds = np.mean(found, 0)
            more = np.array(found) - first
            more = (
                [more_than(100 * more[:, 0], 2), more_than(more[:, 1], 3)] if whose != next(iter(forms)) else ['', '']
            )
            drawn.add_row([name, whose, f'{100 * wrong:.2f}', more[0], f'{loss:.4f}', more[1], f'{seconds:.1f}'])
    return drawn.get_string()


def more_than(differences, digits: int) -> str:
    error = np.std(differences, ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else float('nan')
    return f'{np.mean(differences):+.{digits}f} +- {error:.{digits}f}'


if __name__ == '__main__':
    main()
