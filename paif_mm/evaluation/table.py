"""One table for a clean test and any number of attacked ones."""

import math
from collections.abc import Mapping

from prettytable import PrettyTable

from paif_mm.tables import fitted

from .outcomes import HALLUCINATED, OUTCOMES, changes

#: How the metrics are called in the table's head, where their own names do not say what they count.
NAMES = {'mIoU': 'mIoU (mmseg)', 'mIoU_paper': 'mIoU (paper)', 'pascal_voc/AP50': 'AP50 (VOC)'}
#: mmdet's metrics, which count in shares, and ours and theirs that the table leaves out.
SHARES, LEFT_OUT = ('coco/', 'pascal_voc/'), ('objects/', 'pascal_voc/mAP')


def attack_table(results: dict, wide: bool = False) -> str:
    """Draw the results of several tests of one model, in percent.

    Args:
        results (dict): test name -> (metrics, :class:`paif_mm.attacks.Audit` or None), the clean test first.
        wide (bool): see :func:`~paif_mm.tables.fitted`.

    Returns:
        str: one row per test; per-class values last; what was realised of each attack; the conventions below.
    """
    names = dict.fromkeys(name for metrics, _ in results.values() for name in metrics)
    names = [name for name in names if not name.startswith(LEFT_OUT)]
    names.sort(key=_is_per_class)
    table = PrettyTable(['test', *map(_title, names), 'max |delta|/255', 'loss'])
    for test, (metrics, audit) in results.items():
        # mmdet's COCO metric says nothing where nothing at all is detected: a precision of 0
        table.add_row([test, *(_number(name, metrics.get(name, 0.0)) for name in names), *_realised(audit)])
    table.align = 'r'
    table.align['test'] = 'l'
    lines = [fitted(table, wide)]
    if 'mIoU_paper' in names:
        lines.append(
            'in percent; mIoU (mmseg): mean over the classes that occur, pixels of 255 ignored; '
            "mIoU (paper): mean over all classes with 'unlabeled', absent ones count 0"
        )
    return '\n'.join(lines)


def outcome_table(runs: Mapping[str, Mapping]) -> str:
    """What each attack did to the objects that were found without it.

    Args:
        runs: test name -> :attr:`~.outcomes.ObjectOutcomeMetric.per_image`, the clean test first.
    """
    (clean, reference), *attacked = runs.items()
    columns = ['objects', *OUTCOMES, HALLUCINATED]
    table = PrettyTable(['test', f'found in {clean}', 'still found', *OUTCOMES[1:], f'more {HALLUCINATED}'])
    for name, per_image in attacked:
        row = changes(reference, per_image)
        table.add_row([name, *(row[column] for column in columns)])
    table.align = 'r'
    table.align['test'] = 'l'
    return fitted(table)


def _is_per_class(name: str) -> bool:
    return name.startswith('IoU/') or name.endswith('_precision')


def _title(name: str) -> str:
    if name.endswith('_precision'):
        return f'AP {name.removeprefix("coco/").removesuffix("_precision")}'
    return NAMES.get(name, name.removeprefix('IoU/').removeprefix('coco/bbox_').removeprefix('fused/'))


def _realised(audit) -> tuple[str, str]:
    if audit is None:
        return '', ''
    largest = ' '.join(f'{name} {value:.2f}' for name, value in sorted(audit.max_delta.items()))
    if audit.broken:
        largest += f' {audit.broken} NOT FINITE'
    return largest, f'{audit.loss_before:.3f} -> {audit.loss_after:.3f}'


def _number(name: str, value) -> str:
    if math.isnan(value) or value < 0:  # mmdet's -1: no such objects
        return '-'
    return f'{100 * value if name.startswith(SHARES) else value:.2f}'
