"""What there is: ``paif zoo [NAME]``, or ``python -m paif_mm.zoo [NAME]``."""

import argparse

import mmengine
from prettytable import PrettyTable

from paif_mm.mistakes import reports_mistakes
from paif_mm.tables import fitted

from . import SCHEME, Model, find, models


@reports_mistakes
def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='paif zoo',
        description='List the models of the package',
        epilog='example:\n  paif zoo NAME',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('name', nargs='?', help='show all that is known of this one')
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error instead of its one line')
    name = parser.parse_args(args).name
    if name:
        print(mmengine.dump(find(name).facts, file_format='yaml', sort_keys=False, allow_unicode=True))
        return
    if not models():
        print('the package holds no models yet')
        return
    table = PrettyTable(['name', 'figures', 'MB', 'config'], align='l')
    for model in models().values():
        table.add_row([f'{SCHEME}{model.name}', figures(model), f'{size(model):.1f}', model.facts.get('Config', '')])
    print(fitted(table))


def figures(model: Model) -> str:
    """'mIoU 48.1, mIoU pgd5_eps4 30.2' of the first results."""
    metrics = model.facts['Results'][0]['Metrics'] if model.facts.get('Results') else {}
    return ', '.join(f'{name} {value}' for name, value in metrics.items())


def size(model: Model) -> float:
    return model.weights.stat().st_size / 1e6 if model.weights.is_file() else 0.0


if __name__ == '__main__':
    main()
