"""One table for a clean test and any number of attacked ones."""

import math

from prettytable import PrettyTable

#: How the metrics are called in the table's head, where their own names do not say what they count.
NAMES = {'mIoU': 'mIoU (mmseg)', 'mIoU_paper': 'mIoU (paper)'}


def attack_table(results: dict) -> str:
    """Draw the results of several tests of one model.

    Args:
        results (dict): test name -> (metrics, :class:`paif_mm.attacks.Audit` or None), the clean test first.

    Returns:
        str: one row per test; per-class values last; what was realised of each attack; the conventions below.
    """
    names = list(next(iter(results.values()))[0])
    table = PrettyTable(
        ['test', *(NAMES.get(name, name.removeprefix('IoU/')) for name in names), 'max |delta|/255', 'loss']
    )
    for test, (metrics, audit) in results.items():
        table.add_row([test, *(_number(metrics[name]) for name in names), *_realised(audit)])
    table.align = 'r'
    table.align['test'] = 'l'
    lines = [table.get_string()]
    if 'mIoU_paper' in names:
        lines.append(
            'in percent; mIoU (mmseg): mean over the classes that occur, pixels of 255 ignored; '
            "mIoU (paper): mean over all classes with 'unlabeled', absent ones count 0"
        )
    return '\n'.join(lines)


def _realised(audit) -> tuple[str, str]:
    if audit is None:
        return '', ''
    largest = ' '.join(f'{name} {value:.2f}' for name, value in sorted(audit.max_delta.items()))
    return largest, f'{audit.loss_before:.3f} -> {audit.loss_after:.3f}'


def _number(value) -> str:
    return '-' if isinstance(value, float) and math.isnan(value) else f'{value:.2f}'
