"""What ``paif data check`` does."""

import argparse
import os

from mmengine.logging import MMLogger

from paif_mm import zoo
from paif_mm.arguments import Parser
from paif_mm.engine.launch import CONFIG_ENDINGS, read_config
from paif_mm.mistakes import reports_mistakes

from .checking import check_data, known_layouts, splits_of


@reports_mistakes
def data(words: list[str] | None = None) -> int:
    """Exit code 1 where anything is wrong with the data."""
    parser = Parser(
        prog='paif data',
        description='Read every file of a data set, and name all that is wrong: missing partners and labels, damaged '
        'files, sizes that differ, values that are no class, boxes outside of their image, infrared of an unknown '
        'range, and pairs that two splits share or nearly share.',
        epilog='examples:\n  paif data check data/msrs\n  paif data check my_config.py',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', choices=['check'])
    parser.add_argument('root', help='folder of a data set, laid out as docs/datasets.md shows; or a config')
    args = parser.parse_args(words)
    MMLogger.get_instance('paif data', log_level='ERROR')  # what data sets say is found below, as faults
    faults = 0
    for name, splits in _data_sets(args.root).items():
        for split in check_data(splits):
            faults += len(split.faults)
            print(f'{name}, {split.name}: {split.pairs} pairs, {_number(len(split.faults))}')
            for line in split.faults:
                print(f'  {line}')
    print(f'{_number(faults)} in {args.root}')
    return int(faults > 0)


def _data_sets(root: str) -> dict:
    if root.endswith(CONFIG_ENDINGS):
        return {os.path.basename(root): splits_of(read_config(root))}
    if not os.path.isdir(root):
        raise FileNotFoundError(f'{root} is no folder')
    return known_layouts(root, zoo.ROOT / 'configs' / '_base_' / 'datasets')


def _number(faults: int) -> str:
    return f'{faults or "no"} fault{"s" * (faults != 1)}'
