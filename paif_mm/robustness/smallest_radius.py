"""Where each image falls: the least norm at which a share of its pixels is wrong, and whether the suite knew."""

from collections.abc import Mapping, Sequence

import numpy as np

from .cases import MINIMUM, Case
from .diagnostics import PASSED, SUSPECT, Finding
from .records import Records

SHARES = (0.9, 0.99)
CHECK = 'smallest radius against the suite'
SLACK = 1e-3  # of a share of pixels, which rounding may move over the border; and of a radius
CLAIM = 0.01  # of the pixels that a suite must have left in vain before it counts
LEVELS = (1, 2, 4, 8, 16)  # radii, /255, that the table counts images at


def smallest_radius_cases(norms: Sequence[str] = ('linf', 'l2'), steps: int = 500) -> list[Case]:
    """ALMA prox on both modalities in each norm, for each of :data:`SHARES`."""
    return [
        Case(
            f'alma{share * 100:g}_{norm}',
            {'type': 'ALMAProx', 'share': share, 'norm': norm, 'steps': steps},
            None,
            'both',
            norm,
            MINIMUM,
            steps,
        )
        for norm in norms
        for share in SHARES
    ]


def smallest_radii(cases: Sequence[Case], records: Records, images: list[str], score: type) -> list[dict]:
    """What the minimum-norm attacks found, a dict for each.

    Returns:
        ``key``, ``norm``, ``share``; ``radius``, of each image in [0, 1] units (of L2: the length of the whole
        change), None where the attack did not make that share of the pixels wrong; ``accuracy``, of what it left.
    """
    found = []
    for case in cases:
        if case.kind != MINIMUM:
            continue
        of_images = records.of(case.key, images)
        accuracy = score([record['score'] for record in of_images]).per_image()
        sizes = [_size(record['audit'], case.norm) for record in of_images]
        reached = accuracy <= 1 - case.attack['share'] + SLACK  # False where nothing is labelled
        found.append(
            {
                'key': case.key,
                'norm': case.norm,
                'share': case.attack['share'],
                'radius': [size if yes else None for size, yes in zip(sizes, reached, strict=True)],
                'accuracy': [None if np.isnan(left) else float(left) for left in accuracy],
            }
        )
    return found


def _size(audit: Mapping, norm: str) -> float:
    return max(audit['max_delta_255'].values()) / 255 if norm == 'linf' else audit['l2']


def check_against_suite(found: Sequence[Mapping], cases: Sequence[Case], records: Records, images, score) -> Finding:
    """Whether any image falls at a smaller radius than the suite's worst case claims that it survives.

    At a radius the suite leaves an image some accuracy, the lowest of all its attacks on both modalities. Where the
    minimum-norm attack stayed within that radius and left less, the worst case was not the worst.
    """
    groups = {case.group: None for case in cases if case.group and case.threat == 'both' and case.kind != MINIMUM}
    missed, compared = {}, 0
    for norm, eps, threat in groups:
        keys = [case.key for case in cases if case.group == (norm, eps, threat)]
        claims = np.min(
            [score([record['score'] for record in records.of(key, images)]).per_image() for key in keys], axis=0
        )
        for one in found:
            if one['norm'] != norm:
                continue
            for image, claim, radius, left in zip(images, claims, one['radius'], one['accuracy'], strict=True):
                if radius is None or radius > eps * (1 + SLACK):
                    continue
                compared += 1
                if claim > left + CLAIM:
                    lead = missed.setdefault(f'{_named(norm, eps)}', {})
                    lead[image] = max(lead.get(image, 0.0), float(claim - left))
    evidence = f'{compared} times an image fell within a radius of the suite, '
    if not missed:
        evidence += 'and the worst case there left no more of its pixels'
        return Finding(CHECK, PASSED, evidence, {'compared': compared, 'missed': {}})
    parts = [
        f'at {at} {len(lead)} images, {max(lead.values()):.0%} of the pixels at most' for at, lead in missed.items()
    ]
    evidence += f'but the worst case claims that more is left: {"; ".join(parts)}'
    return Finding(CHECK, SUSPECT, evidence, {'compared': compared, 'missed': missed})


def _named(norm: str, eps: float) -> str:
    return f'{eps * 255:.4g}/255' if norm == 'linf' else f'L2 {eps:.4g}'


def fallen_at(one: Mapping) -> np.ndarray:
    """Radii of the images that have labels, infinite where none was found."""
    known = zip(one['radius'], one['accuracy'], strict=True)
    return np.array([np.inf if radius is None else radius for radius, left in known if left is not None])


def smallest_radius_table(found: Sequence[Mapping]) -> dict:
    """Title, text, head and rows of the section."""
    rows = []
    for one in found:
        radii = fallen_at(one)
        scale = 255 if one['norm'] == 'linf' else 1
        values = [np.quantile(radii, q, method='inverted_cdf') * scale for q in (0, 0.25, 0.5, 0.75)]
        within = [
            f'{np.mean(radii * 255 <= level * (1 + SLACK)):.0%}' if one['norm'] == 'linf' else '' for level in LEVELS
        ]
        name = {'linf': 'L-inf, /255', 'l2': 'L2, [0, 1] units'}[one['norm']]
        rows.append([f'{one["share"] * 100:g} % wrong, {name}', *(f'{v:.3g}' for v in values), *within])
    head = ['pixels', 'first image', 'a quarter', 'median', 'three quarters', *(f'at {r}/255' for r in LEVELS)]
    text = (
        "The least change found (ALMA prox, Rony et al. 2023) that makes a share of an image's labelled pixels wrong: "
        'the radius at which the first image falls, a quarter of them, half and three quarters, and the share of '
        'images that have fallen at each L-inf radius. Upper limits, as a better attack may find less; "inf": not '
        'found.'
    )
    return {'title': 'Smallest radius', 'text': text, 'head': head, 'rows': rows, 'key': 'smallest_radius'}
