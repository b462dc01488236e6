"""Who can be made to vanish: every class of a segmentation made every other one, and what else is lost on the way."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmengine.utils import ProgressBar

from paif_mm.attacks.adaptive import adapted
from paif_mm.evaluation.score import MeanIoU
from paif_mm.files import hash_seed
from paif_mm.registry import ATTACKS, build
from paif_mm.spelling import choices

from .evaluate import Bench
from .sections import Section

ALL = 'all'
COLUMNS = {  # of the table, in percent
    'success': 'success',
    'before': 'so before',
    'found': 'found before',
    'vanished': 'vanished',
    'rest_before': 'rest before',
    'rest_after': 'rest after',
    'collateral': 'collateral',
}


def class_pairs(texts: Sequence[str], classes: Sequence[str]) -> list[tuple[int, int]]:
    """Source and target classes of ``SOURCE:TARGET``; ``all``: every class and every other one.

    Raises:
        ValueError: a text is no pair of two classes.
    """
    pairs = []
    for text in texts:
        if text == ALL:
            pairs += [(a, b) for a in range(len(classes)) for b in range(len(classes)) if a != b]
            continue
        names = text.split(':')
        if len(names) != 2:
            raise ValueError(f'{text!r} names no two classes: write SOURCE:TARGET, or {ALL}')
        for name in names:
            if name not in classes:
                raise ValueError(f'there is no class {name!r}: {choices(name, classes)}')
        if names[0] == names[1]:
            raise ValueError(f'{text} is the same class twice')
        pairs.append((list(classes).index(names[0]), list(classes).index(names[1])))
    return list(dict.fromkeys(pairs))


def attack_pairs(
    bench: Bench,
    pairs: Sequence[tuple[int, int]],
    eps: float,
    steps: int = 100,
    keep: float = 1.0,
    seed: int = 0,
    progress: bool = True,
    adaptive: Mapping | None = None,
) -> list[dict]:
    """Attack, for each pair of classes, every image in which the first occurs.

    Args:
        bench: a segmentor and its images.
        pairs: of :func:`class_pairs`.
        eps: L-inf radius in [0, 1] units.
        steps: of PGD.
        keep: see :class:`~paif_mm.attacks.Targeted`.
        seed: of all random numbers.
        progress: draw a progress bar.
        adaptive: what is known of the defence, see :func:`~paif_mm.attacks.adaptive.read_adaptive`.

    Returns:
        A dict for each pair: ``source``, ``target``, ``images`` and ``pixels`` of the source; in percent of these
        pixels ``before`` and ``success``, predicted as the target without and with the attack, and ``found``, predicted
        as the source without it; in percent of the found ones ``vanished``, predicted as anything else with it; mIoU
        over all other pixels of these images, ``rest_before``, ``rest_after`` and their difference ``collateral``.
        Figures of no pixel are None.

    Raises:
        ValueError: the model is no segmentor.
    """
    if bench.score is not MeanIoU:
        raise ValueError(f'targeted attacks are for segmentors, not for {type(bench.model).__name__}')
    attacks = {pair: _attack(*pair, eps, steps, keep, adaptive or {}) for pair in pairs}
    counts = {pair: _Counts(*pair, bench.classes) for pair in pairs}
    bar = ProgressBar(len(pairs) * len(bench.images)) if progress else None
    for i in bench.images:
        batch = bench.batch([bench.dataset[i]])
        label = batch['data_samples'][0].gt_sem_seg.data[0].cpu().numpy()
        clean = None
        for source, target in pairs:
            if (label == source).any():
                rng = [torch.Generator().manual_seed(hash_seed(seed, source, target, bench.names[i]))]
                found = attacks[source, target](bench.model, batch, rng=rng)
                clean = _predicted(bench, found.clean, batch) if clean is None else clean
                counts[source, target].add(label, clean, _predicted(bench, found.images, batch))
            if bar:
                bar.update()
    if bar:
        print()
    return [counts[pair].figures(bench.class_names) for pair in pairs]


def _attack(source: int, target: int, eps: float, steps: int, keep: float, adaptive: Mapping):
    goals = [{'source': source, 'target': target}]
    attack = {
        'type': 'PGD',
        'eps': eps,
        'step_size': eps / 8,
        'steps': steps,
        'random_start': False,
        'objective': {'type': 'Targeted', 'goals': goals, 'keep': keep},
    }
    return build(ATTACKS, adapted(attack, adaptive))


def _predicted(bench: Bench, images, batch) -> np.ndarray:
    return bench.predict(images, batch)[0].pred_sem_seg.data[0].cpu().numpy()


class _Counts:
    """Pixels of one pair of classes over all images."""

    def __init__(self, source: int, target: int, classes: int):
        self.source, self.target, self.classes = source, target, classes
        self.images = self.pixels = self.before = self.success = self.found = self.vanished = 0
        self.rest = np.zeros((2, 2, classes))  # without and with the attack: intersections and unions

    def add(self, label: np.ndarray, clean: np.ndarray, attacked: np.ndarray) -> None:
        aimed = label == self.source
        self.images += 1
        self.pixels += int(aimed.sum())
        self.before += int((clean[aimed] == self.target).sum())
        self.success += int((attacked[aimed] == self.target).sum())
        found = aimed & (clean == self.source)
        self.found += int(found.sum())
        self.vanished += int((attacked[found] != self.source).sum())
        rest = ~aimed & (label < self.classes)
        for run, predicted in enumerate((clean, attacked)):
            for k in range(self.classes):
                there, said = label[rest] == k, predicted[rest] == k
                self.rest[run, :, k] += (there & said).sum(), (there | said).sum()

    def figures(self, names: Sequence[str]) -> dict:
        shares = {key: _percent(getattr(self, key), self.pixels) for key in ('before', 'success', 'found')}
        before, after = (self._rest(run) for run in range(2))
        return {
            'source': names[self.source],
            'target': names[self.target],
            'images': self.images,
            'pixels': self.pixels,
            **shares,
            'vanished': _percent(self.vanished, self.found),
            'rest_before': before,
            'rest_after': after,
            'collateral': None if before is None else before - after,
        }

    def _rest(self, run: int) -> float | None:
        """mIoU over the classes that the other pixels have or are said to have without the attack."""
        intersect, union = self.rest[run]
        known = self.rest[0, 1] > 0
        return float(100 * np.mean(intersect[known] / np.maximum(union[known], 1))) if known.any() else None


def targeted_sections(found: Sequence[Mapping], classes: Sequence[str], eps: float) -> list[Section]:
    """A line for each pair, and the matrix of success rates."""
    rows = [
        [
            f'{one["source"]} to {one["target"]}',
            str(one['images']),
            *(_number(one[key], 1) for key in COLUMNS),
        ]
        for one in found
    ]
    head = ['from, to', 'images', *COLUMNS.values()]
    text = (
        f'L-inf {eps * 255:.4g}/255, in percent. success: pixels of the first class that are predicted as the second '
        '(so before: without the attack); found before: that are predicted as their own class without it; vanished: of '
        'these, those that are no longer; rest: mIoU over all other pixels of these images; collateral: what it loses.'
    )
    success = {(one['source'], one['target']): one['success'] for one in found}
    matrix = [[name, *(_number(success.get((name, other)), 0) for other in classes)] for name in classes]
    return [
        Section('Who can be made to vanish', text, head, rows),
        Section('Success rates', 'From the class of the row to that of the column.', ['from', *classes], matrix),
    ]


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _number(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'
