"""The command ``paif``: pairs in, pictures out, and the tools by short names."""

import runpy
import sys

from . import zoo
from .spelling import choices

TOOLS = {
    'train': ('train.py', 'train a model: plainly, by SAT, by AAT, or a search'),
    'test': ('test.py', 'test it, clean and attacked'),
    'robustness': ('robustness.py', 'attack it with a suite, and report what is left'),
    'compare': ('compare_reports.py', 'compare reports of several models'),
    'leaderboard': ('leaderboard.py', 'draw one page from many reports'),
    'targeted': ('targeted.py', 'who can be made to vanish, or to become what'),
    'patch': ('learn_patch.py', 'learn one perturbation for all images'),
    'craft': ('craft_attacks.py', 'make a bank of attacked pairs'),
    'study': ('study.py', 'train, test and attack the rows of a plan'),
    'browse': ('browse_dataset.py', 'draw the pairs that training sees'),
    'config': ('print_config.py', 'print a config in whole'),
    'flops': ('get_flops.py', 'count parameters and FLOPs'),
}
OWN = {
    'predict': 'segment, detect or classify own pairs',
    'fuse': 'fuse own pairs',
    'attack': 'attack one pair, and show what it does',
    'data': 'check a data set: every file, all that is wrong',
    'zoo': 'list the models of the package',
}


def main() -> int:
    """Run a subcommand with the arguments behind its name; returns its exit code."""
    name, args = (sys.argv[1] if len(sys.argv) > 1 else '--help'), sys.argv[2:]
    if name in ('-h', '--help'):
        print(usage())
        return 0
    if name in TOOLS:
        path = zoo.ROOT / 'tools' / TOOLS[name][0]
        sys.argv = [str(path), *args]
        sys.path.insert(0, str(path.parent))  # as for any script: tools import each other
        runpy.run_path(str(path), run_name='__main__')
        return 0
    if name in ('predict', 'fuse'):
        from .apis import command

        return getattr(command, name)(args)
    if name == 'attack':
        from .apis.attack_command import attack

        return attack(args)
    if name == 'data':
        from .apis.data_command import data

        return data(args)
    if name == 'zoo':
        from .zoo.__main__ import main as listing

        listing(args)
        return 0
    print(f'paif has no command {name}: {choices(name, [*OWN, *TOOLS])}', file=sys.stderr)
    return 2


def usage() -> str:
    rows = {**OWN, **{name: what for name, (_, what) in TOOLS.items()}}
    lines = [f'  {name:<12}{what}' for name, what in rows.items()]
    return '\n'.join(['usage: paif COMMAND ...; paif COMMAND --help says more', '', *lines])


if __name__ == '__main__':
    sys.exit(main())
