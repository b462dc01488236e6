"""The report of an evaluation: everything that is known, in one dict of plain values."""

import os.path as osp
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from paif_mm.corruptions import CORRUPTIONS, FAMILIES
from paif_mm.evaluation.quality import RANGES
from paif_mm.evaluation.score import MeanIoU

from .cases import Case, corruption_cases, degree_of, nested, suite_groups
from .diagnostics import overall
from .records import Records
from .statistics import Bootstrap, worst_case

VERSION = 3
#: The paper's figures in percent, by score: of its own models, under PGD-5 alone; shown beside its own data alone: the
#: official validation or test set of MFNet (392 and 393 pairs), a tenth or more of M3FD's 4200, which has no split.
PAPER = {
    'mIoU': {
        'what': 'PAIF (ACM MM 2023), Table 3: MFNet, mIoU over all nine classes, PGD-5',
        'data': ('MFNetDataset', 392),
        'figure': 'mIoU_paper',
        'rows': {
            'General': {'clean': 56.5, '4': 17.9, '8': 15.7},
            'SAT': {'clean': 50.7, '4': 32.8, '8': 26.7},
            'AAT': {'clean': 51.8, '4': 36.1, '8': 31.4},
        },
    },
    'AP50': {
        'what': "PAIF (ACM MM 2023), Table 2, row 'Ours': M3FD, mAP, PGD",
        'data': ('M3FDDataset', 400),
        'figure': 'mAP',
        'rows': {'Ours': {'clean': 48.3, '1': 28.3, '4': 21.4}},
    },
}
WORST = 'worst case'


def make_report(
    cases: Sequence[Case],
    records: Records,
    images: list[str],
    score: type,
    classes: Sequence[str],
    bootstrap: Bootstrap,
    findings: Sequence[Mapping] = (),
    facts: Mapping | None = None,
    channels: int = 4,
) -> dict:
    """Put the report together.

    Args:
        cases: of the suite, the clean one first.
        records: with all cases of all images.
        images: their names.
        score: what measures the predictions, see :mod:`~paif_mm.evaluation.score`.
        classes: names.
        bootstrap: for the confidence intervals.
        findings: of the masking diagnostics.
        facts: about the model, the data, the settings and the versions.
        channels: of the images.

    Returns:
        dict: ``rows``, one for each case and one for the worst case of each group of attacks, with ``figures`` (group
        of images -> figure -> value, low, high; in percent); ``constant``, what calling every pixel one class scores;
        ``trouble``, the mean errors under corruptions; ``masking``; ``paper``, for its own data; and the facts. Clean,
        PGD-5 and worst-case rows say what is ``left``: how far their leading figure is above the constant answer's (of
        detectors: above 0).
    """
    groups = _image_groups(images)
    scores = {case.key: score([r['score'] for r in records.of(case.key, images)], classes) for case in cases}
    clean = records.of(cases[0].key, images)
    worst = _worst_rows(cases, scores, bootstrap, groups, channels, max(record['pixels'] for record in clean))
    last = {case.group: case.key for case in cases}
    constant = score.constant([record['score'] for record in clean], classes) if score is MeanIoU else None
    rows = []
    for case in cases:
        rows.append(_case_row(case, scores, records.of(case.key, images), bootstrap, groups))
        if case.name in ('clean', 'pgd5'):
            rows[-1]['left'] = bootstrap.difference(scores[case.key], constant and constant[0])
        if case.group in worst and case.key == last[case.group]:
            row = worst[case.group]
            chosen = score.joined([scores[key] for key in row['members']])
            places = np.array(row['choice']) * len(images) + np.arange(len(images))
            rows.append({**row, 'left': bootstrap.difference(chosen.take(places), constant and constant[0])})
    return {
        'version': VERSION,
        **(facts or {}),
        'score': score.name,
        'classes': list(classes),
        'images': images,
        'groups': {name: int(part.sum()) for name, part in groups.items()},
        'rows': rows,
        'constant': None if constant is None else _constant(*constant, bootstrap, groups),
        'trouble': _trouble(cases, scores, bootstrap),
        'masking': {'verdict': overall(findings), 'findings': list(findings)},
        'fused_ranges': RANGES if any('fused' in row for row in rows) else {},
        'paper': _paper(score.name, (facts or {}).get('data', {})),
    }


def _paper(score: str, data: Mapping) -> dict | None:
    """What the paper has on this data."""
    kind, least = PAPER[score]['data']
    return PAPER[score] if data.get('type') == kind and data['of'] >= least else None


def threats_of(report: Mapping, eps: float | None = None) -> list[str]:
    """What may be changed in the report's worst cases, and under PGD-5, L-inf, in the order of its rows.

    What a single attack of another name may change is no threat that the report speaks of.

    Args:
        report: of :func:`make_report`.
        eps: of this radius alone. Default: of any.
    """
    return list(dict.fromkeys(row['threat'] for row in _leading_rows(report) if eps is None or _same(row['eps'], eps)))


def _leading_rows(report: Mapping) -> list[Mapping]:
    rows = (row for row in report['rows'] if row['norm'] == 'linf' and not row.get('further'))
    return [row for row in rows if row['name'] in ('pgd5', WORST)]


def main_threat(report: Mapping, eps: float | None = None) -> str:
    """Under which of these least is left at a radius, by default at the largest: both modalities, where both may be
    changed, else the one of the lowest worst case (of PGD-5, where there is none)."""
    if eps is None:
        eps = max((row['eps'] for row in _leading_rows(report)), default=None)
    threats = threats_of(report, eps)
    if 'both' in threats or not threats:
        return 'both'

    def left(threat: str) -> float:
        row = row_of(report, WORST, eps, threat) or row_of(report, 'pgd5', eps, threat)
        value = row and leading(row, report)['value']
        return np.inf if value is None else value

    return min(threats, key=left)


def row_of(report: Mapping, name: str, eps: float | None = None, threat: str | None = None, norm: str = 'linf'):
    """The row of an attack, by default under the report's main threat; or None."""
    threat = threat or main_threat(report)
    for row in report['rows']:
        if row['name'] == name and _same(row['eps'], eps) and row['threat'] == threat and row['norm'] == norm:
            return row
    return None


def _same(eps: float | None, other: float | None) -> bool:
    return eps == other or (None not in (eps, other) and abs(eps - other) < 1e-9)


def leading(row: Mapping, report: Mapping, group: str = 'all') -> Mapping:
    """The interval of the score's leading figure."""
    return row['figures'][group][report['score']]


def radii(report: Mapping, norm: str = 'linf') -> list[float]:
    """All radii of a report, rising."""
    return sorted({row['eps'] for row in report['rows'] if row['eps'] is not None and row['norm'] == norm})


def _case_row(case: Case, scores: Mapping, found: Sequence[Mapping], bootstrap: Bootstrap, groups) -> dict:
    score = scores[case.key]
    row = {
        **case.to_dict(),
        'figures': _figures(score, bootstrap, groups),
        'loss': bootstrap.mean([record['loss'] for record in found]),
        'per_image': _rounded(score.per_image()),
    }
    if 'audit' in found[0]:
        audits = [record['audit'] for record in found]
        row['audit'] = {
            'max_delta_255': {key: max(a['max_delta_255'][key] for a in audits) for key in audits[0]['max_delta_255']},
            'max_l2': max(a['l2'] for a in audits),
            'at_bound': float(np.mean([a['at_bound'] for a in audits])),
            'blind': sum(a.get('blind', False) for a in audits),
        }
    if 'fused' in found[0]:
        row['fused'] = {key: bootstrap.mean([record['fused'][key] for record in found]) for key in found[0]['fused']}
    if 'eight_bit' in found[0]:
        read_back = type(score)([record['eight_bit'] for record in found], score.classes)
        row['eight_bit'] = bootstrap.figures(read_back)[score.name]
    return row


def _worst_rows(
    cases: Sequence[Case], scores: Mapping, bootstrap: Bootstrap, groups: Mapping, channels: int, pixels: int
) -> dict[tuple, dict]:
    """The worst case of each group that the suite attacks itself, by several attacks or beside further ones inside of
    its ball, over all cases that this contains, the clean one included.

    Smaller balls come first: what was chosen in them is a start in the larger ones, so that no figure rises with the
    radius, with a second modality, or from one norm to another that contains it.
    """
    own, known = Counter(case.group for case in cases if case.group), suite_groups(cases)
    further = {case.key for case in cases if case.further}
    members = {
        group: keys
        for group, keys in nested(cases, channels, pixels).items()
        if group in known and (own[group] > 1 or further & {*keys})
    }
    rows, chosen = {}, {name: {} for name in groups}
    for group in sorted(members, key=lambda group: len(members[group])):
        keys = members[group]
        found = {}
        for name, part in groups.items():
            inner = [other for other in chosen[name] if set(members[other]) <= set(keys)]
            starts = [
                {figure: np.array([keys.index(members[other][i]) for i in choice]) for figure, choice in made.items()}
                for other, made in ((other, chosen[name][other]) for other in inner)
            ]
            found[name] = worst_case([scores[key] for key in keys], part, starts)
            chosen[name][group] = found[name].choices
        rows[group] = _worst_row(group, keys, [scores[key] for key in keys], found, bootstrap, groups)
    return rows


def _worst_row(group: tuple, keys, scores, found: Mapping, bootstrap: Bootstrap, groups) -> dict:
    """Each group of images has its own choices, and its second figure and accuracy of pixels choices of theirs."""
    norm, eps, threat = group
    kind, figures = type(scores[0]), {}
    for name, part in groups.items():
        figures[name] = bootstrap.figures(found[name].score, part)
        for figure, choice in ((kind.second, kind.second), ('aAcc', 'image-wise')):
            if figure in figures[name]:
                figures[name][figure] = bootstrap.figures(found[name].figures[choice], part)[figure]
    choice = found['all'].choices[kind.name]
    return {
        **Case(WORST, None, eps, threat, norm, 'worst', 0.0).to_dict(),
        'members': keys,
        'choice': choice.tolist(),
        'chosen': {keys[i]: count for i, count in Counter(choice.tolist()).most_common()},
        'figures': figures,
        'per_image': _rounded(np.fmin.reduce([score.per_image() for score in scores])),
    }


def _trouble(cases: Sequence[Case], scores: Mapping, bootstrap: Bootstrap) -> dict | None:
    """Mean corruption errors: of each corruption over its severities, of each family and of all over the corruptions.

    The error is 100 minus the leading figure. ``kept`` is the mean figure under all corruptions as a share of the clean
    one, in percent (rPC of Michaelis et al. 2019). The suite's own corruptions count, which have several severities;
    not those of further attacks.
    """
    degrees = {}
    for case in cases:
        name, severity = degree_of(case.name, case.attack or {}) or (None, None)
        if severity is not None:
            score = scores[case.key]
            degrees.setdefault(name, []).append(100 - score.value(score.name, bootstrap.weights))
    errors = {name: np.mean(found, 0) for name, found in degrees.items() if len(found) == len(corruption_cases([name]))}
    if not errors:
        return None
    families = {
        family: np.mean([error for name, error in errors.items() if CORRUPTIONS[name].family == family], 0)
        for family in FAMILIES
        if any(CORRUPTIONS[name].family == family for name in errors)
    }
    every = np.mean(list(errors.values()), 0)
    clean = scores[cases[0].key].value(scores[cases[0].key].name, bootstrap.weights)
    kept = np.divide(100 * (100 - every), clean, out=np.full(len(clean), np.nan), where=clean > 0)
    return {
        'corruptions': {name: bootstrap.interval(error) for name, error in errors.items()},
        'family': {name: CORRUPTIONS[name].family for name in errors},
        'families': {family: bootstrap.interval(error) for family, error in families.items()},
        'mean': bootstrap.interval(every),
        'kept': bootstrap.interval(kept),
    }


def _constant(score, answer: str, bootstrap: Bootstrap, groups: Mapping) -> dict:
    figures = {name: bootstrap.figures(score, part) for name, part in groups.items()}
    known = ('mIoU', 'mIoU_paper', 'aAcc')
    return {'answer': answer, 'figures': {name: {key: found[key] for key in known} for name, found in figures.items()}}


def _figures(score, bootstrap: Bootstrap, groups: Mapping[str, np.ndarray]) -> dict:
    return {name: bootstrap.figures(score, part) for name, part in groups.items()}


def _image_groups(images: Sequence[str]) -> dict[str, np.ndarray]:
    """All images, and those by day and by night where ids tell (00123D, 00456N: MFNet's and MSRS's)."""
    groups = {'all': np.ones(len(images))}
    endings = [re.fullmatch(r'.*\d([DN])', osp.splitext(name)[0]) for name in images]
    if all(endings):
        for name, letter in (('day', 'D'), ('night', 'N')):
            part = np.array([float(ending[1] == letter) for ending in endings])
            if part.any() and not part.all():
                groups[name] = part
    return groups


def _rounded(values: np.ndarray) -> list:
    return [None if np.isnan(value) else round(float(value), 5) for value in values]
