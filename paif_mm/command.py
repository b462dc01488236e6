"""The command ``paif``: pairs in, pictures out, and the tools by short names."""

import os
import runpy
import sys

from . import zoo
from .spelling import choices

SAT = 'paif_mm::paif/segformer_sat_mfnet.py'
#: name -> file of the tool, what it does, an example's arguments
TOOLS = {
    'train': ('train.py', 'train a model: plainly, by SAT, by AAT, or a search', f'{SAT} --amp'),
    'test': ('test.py', 'test it, clean and attacked', 'CONFIG CHECKPOINT --attack pgd5_eps4 pgd5_eps8'),
    'robustness': (
        'robustness.py',
        'attack it with a suite, and report what is left',
        'CONFIG CHECKPOINT --suite strong --limit 100 --out work_dirs/robustness/NAME',
    ),
    'compare': (
        'compare_reports.py',
        'compare reports of several models',
        'work_dirs/robustness/A work_dirs/robustness/B',
    ),
    'leaderboard': ('leaderboard.py', 'draw one page from many reports', 'work_dirs/robustness/*'),
    'targeted': (
        'targeted.py',
        'who can be made to vanish, or to become what',
        'CONFIG CHECKPOINT --eps 4/255 --out out',
    ),
    'patch': ('learn_patch.py', 'learn one perturbation for all images', 'CONFIG CHECKPOINT --out work_dirs/patch'),
    'craft': (
        'craft_attacks.py',
        'make a bank of attacked pairs',
        'CONFIG CHECKPOINT work_dirs/bank --num 100',
    ),
    'study': ('study.py', 'train, test and attack the rows of a plan', 'PLAN.yaml --work-dir work_dirs/study --jobs 2'),
    'synthetic': (
        'make_synthetic.py',
        'draw synthetic street scenes with labels',
        'data/synthetic --train 400 --val 60',
    ),
    'genotype': ('show_genotype.py', 'show what a search found', 'work_dirs/search/genotype.json'),
    'export': ('export.py', 'write a model as ONNX, TorchScript or torch.export', 'CONFIG CHECKPOINT --format onnx'),
    'browse': ('browse_dataset.py', 'draw the pairs that training sees', f'{SAT} --show-number 20'),
    'config': ('print_config.py', 'print a config in whole', SAT),
    'flops': ('get_flops.py', 'count parameters and FLOPs', f'{SAT} --shape 480 640'),
}
OWN = {
    'predict': 'segment, detect or classify own pairs',
    'fuse': 'fuse own pairs',
    'attack': 'attack one pair, and show what it does',
    'demo': 'serve a page to predict and attack pairs on',
    'data': 'check a data set: every file, all that is wrong',
    'zoo': 'list the models of the package',
    'mim': 'run a tool of mmseg, mmdet or mmpretrain on configs of pairs, without a compiled mmcv',
}


def main() -> int:
    """Run a subcommand with the arguments behind its name; returns its exit code."""
    name, args = (sys.argv[1] if len(sys.argv) > 1 else '--help'), sys.argv[2:]
    if name in ('-h', '--help'):
        print(usage())
        return 0
    sys.path.append(os.getcwd())  # where custom_imports of configs are looked for, as python -m does
    if name in TOOLS:
        file, _, example = TOOLS[name]
        path = zoo.ROOT / 'tools' / file
        sys.argv = [str(path), *args]
        sys.path.insert(0, str(path.parent))  # as for any script: tools import each other
        try:
            runpy.run_path(str(path), run_name='__main__')
        finally:
            if {'-h', '--help'} & set(args):
                print(f'\nexample:\n  paif {name} {example}')
        return 0
    if name in ('predict', 'fuse'):
        from .apis import command

        return getattr(command, name)(args)
    if name == 'attack':
        from .apis.attack_command import attack

        return attack(args)
    if name == 'demo':
        from .apis.demo_command import demo

        return demo(args)
    if name == 'data':
        from .apis.data_command import data

        return data(args)
    if name == 'zoo':
        from .zoo.__main__ import main as listing

        listing(args)
        return 0
    if name == 'mim':
        from .compat.tools import mim

        return mim(args)
    print(f'paif has no command {name}: {choices(name, [*OWN, *TOOLS])}', file=sys.stderr)
    return 2


def usage() -> str:
    rows = {**OWN, **{name: what for name, (_, what, _) in TOOLS.items()}}
    lines = [f'  {name:<12}{what}' for name, what in rows.items()]
    return '\n'.join(['usage: paif COMMAND ...; paif COMMAND --help says more', '', *lines])


if __name__ == '__main__':
    sys.exit(main())
