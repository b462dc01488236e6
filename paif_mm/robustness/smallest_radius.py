"""Where each image falls: the least norm at which a share of its pixels is wrong, and whether the suite knew."""

from collections.abc import Mapping, Sequence

import numpy as np

from paif_mm.registry import ATTACKS, build

from .cases import MINIMUM, Case, named_threats, nested, threat_ball
from .diagnostics import PASSED, SKIPPED, SMALLEST_RADIUS, SUSPECT, Finding
from .records import Records

SHARES = (0.9, 0.99)
#: Attacks that look for it, and the norms that each of them knows.
SEARCHES = {'alma': ('ALMAProx', ('linf', 'l2')), 'pdpgd': ('PDPGD', ('linf', 'l2')), 'dag': ('DAG', ('linf',))}
WHOLE = ('both', 'ir', 'vis')  # threats that have a smallest radius
SLACK = 1e-3  # of a share of pixels, which rounding may move over the border; and of a radius
CLAIM = 0.01  # of the pixels that a suite must have left in vain before it counts
LEVELS = (1, 2, 4, 8, 16)  # radii, /255, that the table counts images at


def smallest_radius_cases(
    norms: Sequence[str] = ('linf', 'l2'),
    steps: int = 500,
    threats: Sequence[str] = ('both',),
    searches: Sequence[str] = ('alma',),
) -> list[Case]:
    """Each search in each norm, for each of :data:`SHARES`, on both modalities or on either alone, as threats say.

    Args:
        norms: of ``'linf'`` and ``'l2'``; a search is left out where it does not know one.
        steps: of each.
        threats: of those of a suite; splits of a radius have none.
        searches: of :data:`SEARCHES`.
    """
    return [
        Case(
            f'{search}{share * 100:g}_{norm}',
            {'type': kind, 'share': share, **_norm(norm, known), 'steps': steps, **_modality(threat)},
            None,
            threat,
            norm,
            MINIMUM,
            steps,
        )
        for threat in named_threats(threats, True)
        if threat in WHOLE
        for search, (kind, known) in ((search, SEARCHES[search]) for search in searches)
        for norm in norms
        if norm in known
        for share in SHARES
    ]


def _norm(norm: str, known: Sequence[str]) -> dict:
    return {'norm': norm} if len(known) > 1 else {}


def _modality(threat: str) -> dict:
    return {} if threat == 'both' else {'modality': threat}


def smallest_radii(cases: Sequence[Case], records: Records, images: list[str], score: type) -> list[dict]:
    """What the minimum-norm attacks found, a dict for each.

    Returns:
        ``key``, ``attack``, ``norm``, ``threat``, ``share``; ``radius``, of each image in [0, 1] units (of L2: the
        length of the whole change), None where the attack did not make that share of the pixels wrong; ``accuracy``,
        of what it left.
    """
    found = []
    for case in cases:
        if case.kind != MINIMUM:
            continue
        share, of_images = build(ATTACKS, case.attack).share, records.of(case.key, images)
        accuracy = score([record['score'] for record in of_images]).per_image()
        sizes = [_size(record['audit'], case.norm) for record in of_images]
        reached = accuracy <= 1 - share + SLACK  # False where nothing is labelled
        found.append(
            {
                'key': case.key,
                'attack': case.attack['type'].rpartition('.')[2],
                'norm': case.norm,
                'threat': case.threat,
                'share': share,
                'radius': [size if yes else None for size, yes in zip(sizes, reached, strict=True)],
                'accuracy': [None if np.isnan(left) else float(left) for left in accuracy],
            }
        )
    return found


def _size(audit: Mapping, norm: str) -> float:
    return max(audit['max_delta_255'].values()) / 255 if norm == 'linf' else audit['l2']


def check_against_suite(
    found: Sequence[Mapping], cases: Sequence[Case], records: Records, images: list[str], score: type, channels: int = 4
) -> Finding:
    """Whether any image falls at a smaller radius than the suite's worst case claims that it survives.

    At a radius the suite leaves an image some accuracy, the lowest of all attacks that stay inside of its ball. Where
    the minimum-norm attack stayed inside of it, too, and left less, the worst case was not the worst. Where the suite
    made as many pixels wrong within a smaller radius than was found, the search was not the best: this is told, and
    says nothing of the suite.

    Args:
        found: of :func:`smallest_radii`.
        cases: of the suite, the clean one first.
        records: with all cases of all images.
        images: their names.
        score: what measures the predictions.
        channels: of the images.
    """
    pixels = max(record['pixels'] for record in records.of(cases[0].key, images))
    missed, compared, behind = {}, 0, set()
    for group, keys in nested(cases, channels, pixels).items():
        claims = np.min(
            [score([record['score'] for record in records.of(key, images)]).per_image() for key in keys], axis=0
        )
        norm, eps, threat = group
        for one in (one for one in found if one['norm'] == norm):
            if threat_ball(norm, eps, one['threat'], channels).contains(threat_ball(*group, channels), pixels):
                behind |= {(one['key'], image) for image in _fallen_before(one, images, claims, eps)}
            for image, claim, radius, left in zip(images, claims, one['radius'], one['accuracy'], strict=True):
                if radius is None or radius > eps * (1 + SLACK):
                    continue
                inner = threat_ball(norm, radius / (1 + SLACK), one['threat'], channels)
                if not threat_ball(*group, channels).contains(inner, pixels):
                    continue
                compared += 1
                if claim > left + CLAIM:
                    lead = missed.setdefault(_named(norm, eps, threat), {})
                    lead[image] = max(lead.get(image, 0.0), float(claim - left))
    figures = {'compared': compared, 'missed': missed, 'behind': len(behind)}
    weak = (
        f'; {len(behind)} times the suite did as much within a smaller radius than the search found' if behind else ''
    )
    if not compared:
        evidence = 'no image fell within a radius of the suite: there is nothing to compare'
        return Finding(SMALLEST_RADIUS, SKIPPED, evidence + weak, figures)
    evidence = f'{compared} times an image fell within a radius of the suite, '
    if not missed:
        evidence += 'and the worst case there left no more of its pixels'
        return Finding(SMALLEST_RADIUS, PASSED, evidence + weak, figures)
    parts = [
        f'at {at} {len(lead)} images, {max(lead.values()):.0%} of the pixels at most' for at, lead in missed.items()
    ]
    evidence += f'but the worst case claims that more is left: {"; ".join(parts)}'
    return Finding(SMALLEST_RADIUS, SUSPECT, evidence + weak, figures)


def _fallen_before(one: Mapping, images: list[str], left: np.ndarray, eps: float) -> list[str]:
    """Images of which a suite leaves no more at a radius than a search asks for, which needed a larger one."""
    needed = [np.inf if radius is None else radius for radius in one['radius']]
    return [
        image
        for image, accuracy, radius in zip(images, left, needed, strict=True)
        if accuracy <= 1 - one['share'] + SLACK and radius > eps * (1 + SLACK)
    ]


def set_apart(one: Mapping) -> str:
    """What sets a search apart from ALMA prox on both modalities."""
    usual = {'threat': 'both', 'attack': 'ALMAProx'}
    return ''.join(f', {one[key]}' for key, value in usual.items() if one[key] != value)


def _named(norm: str, eps: float, threat: str) -> str:
    radius = f'{eps * 255:.4g}/255' if norm == 'linf' else f'L2 {eps:.4g}'
    return radius if threat == 'both' else f'{radius}, {threat}'


def fallen_at(one: Mapping) -> np.ndarray:
    """Radii of the images that have labels, infinite where none was found."""
    known = zip(one['radius'], one['accuracy'], strict=True)
    return np.array([np.inf if radius is None else radius for radius, left in known if left is not None])


def search_title(one: Mapping) -> str:
    """Of a search, with the unit of its radii."""
    unit = {'linf': 'L-inf, /255', 'l2': 'L2, [0, 1] units'}[one['norm']]
    return f'{one["share"] * 100:g} % wrong, {unit}{set_apart(one)}'


def quantile(one: Mapping, share: float) -> str:
    """The radius at which so large a share of the images has fallen, in that unit; '-' where none has labels."""
    scale, radii = 255 if one['norm'] == 'linf' else 1, fallen_at(one)
    return f'{np.quantile(radii, share, method="inverted_cdf") * scale:.3g}' if radii.size else '-'


def smallest_radius_table(found: Sequence[Mapping]) -> dict:
    """Title, text, head and rows of the section."""
    rows = []
    for one in found:
        radii = fallen_at(one)
        within = [
            f'{np.mean(radii * 255 <= level * (1 + SLACK)):.0%}' if one['norm'] == 'linf' and radii.size else ''
            for level in LEVELS
        ]
        rows.append([search_title(one), *(quantile(one, q) for q in (0, 0.25, 0.5, 0.75)), *within])
    head = ['pixels', 'first image', 'a quarter', 'median', 'three quarters', *(f'at {r}/255' for r in LEVELS)]
    text = (
        'The least change found (by ALMA prox, Rony et al. 2023, where no other attack is named) that makes a share of '
        "an image's labelled pixels wrong: "
        'the radius at which the first image falls, a quarter of them, half and three quarters, and the share of '
        'images that have fallen at each L-inf radius. Upper limits, as a better attack may find less; "inf": not '
        'found.'
    )
    return {'title': 'Smallest radius', 'text': text, 'head': head, 'rows': rows, 'key': 'smallest_radius'}
