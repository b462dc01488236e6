"""The report of an evaluation: everything that is known, in one dict of plain values."""

import os.path as osp
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from paif_mm.evaluation.quality import RANGES
from paif_mm.evaluation.score import MeanIoU

from .cases import Case
from .diagnostics import overall
from .records import Records
from .statistics import Bootstrap, worst_case

VERSION = 1
#: The paper's figures in percent, by score: on other data and other models than most reports', under PGD-5 alone.
PAPER = {
    'mIoU': {
        'what': 'PAIF (ACM MM 2023), Table 3: MFNet, mIoU over all nine classes, PGD-5',
        'figure': 'mIoU_paper',
        'rows': {
            'General': {'clean': 56.5, '4': 17.9, '8': 15.7},
            'SAT': {'clean': 50.7, '4': 32.8, '8': 26.7},
            'AAT': {'clean': 51.8, '4': 36.1, '8': 31.4},
        },
    },
    'AP50': {
        'what': "PAIF (ACM MM 2023), Table 2, row 'Ours': M3FD, mAP, PGD",
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

    Returns:
        dict: ``rows``, one for each case and one for the worst case of each group of attacks, with ``figures`` (group
        of images -> figure -> value, low, high; in percent); ``masking``; ``paper``; and the facts.
    """
    groups = _image_groups(images)
    scores = {case.key: score([r['score'] for r in records.of(case.key, images)], classes) for case in cases}
    members = defaultdict(list)
    for case in cases:
        if case.group:
            members[case.group].append(case.key)
    rows = []
    for case in cases:
        rows.append(_case_row(case, scores, records.of(case.key, images), bootstrap, groups))
        keys = members.get(case.group, [])
        if len(keys) > 1 and case.key == keys[-1]:
            worst = Case(WORST, None, case.eps, case.threat, case.norm, 'worst', 0.0)
            found = [[record['score'] for record in records.of(key, images)] for key in keys]
            rows.append(_worst_row(worst, keys, [scores[key] for key in keys], found, classes, bootstrap, groups))
    return {
        'version': VERSION,
        **(facts or {}),
        'score': score.name,
        'classes': list(classes),
        'images': images,
        'groups': {name: int(part.sum()) for name, part in groups.items()},
        'rows': rows,
        'masking': {'verdict': overall(findings), 'findings': list(findings)},
        'fused_ranges': RANGES if any('fused' in row for row in rows) else {},
        'paper': PAPER[score.name],
    }


def main_threat(report: Mapping) -> str:
    """What the report's leading attacks may change: both modalities, where any attack may."""
    threats = [row['threat'] for row in report['rows'] if row['kind'] == 'gradient' and row['eps'] is not None]
    return 'both' if 'both' in threats or not threats else threats[0]


def row_of(report: Mapping, name: str, eps: float | None = None, threat: str | None = None, norm: str = 'linf'):
    """The row of an attack, by default under the report's main threat; or None."""
    threat = threat or main_threat(report)
    for row in report['rows']:
        same = row['eps'] == eps or (None not in (row['eps'], eps) and abs(row['eps'] - eps) < 1e-9)
        if row['name'] == name and same and row['threat'] == threat and row['norm'] == norm:
            return row
    return None


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


def _worst_row(case: Case, keys, scores, found, classes, bootstrap: Bootstrap, groups) -> dict:
    """Figures of the joint choice, and the accuracy of the image-wise one (segmentation); see :func:`worst_case`."""
    chosen, choices = worst_case(scores, classes, found)
    last = list(chosen)[-1]
    figures = _figures(chosen[last], bootstrap, groups)
    if isinstance(scores[0], MeanIoU):
        image_wise = _figures(chosen['image-wise'], bootstrap, groups)
        for group, values in figures.items():
            values['aAcc'] = image_wise[group]['aAcc']
    return {
        **case.to_dict(),
        'members': keys,
        'chosen': {name: {keys[i]: n for i, n in Counter(c.tolist()).most_common()} for name, c in choices.items()},
        'figures': figures,
        'per_image': _rounded(np.fmin.reduce([score.per_image() for score in scores])),
    }


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
