"""Compare the configs of two trees: ``python tools/compare_configs.py OLD_CONFIGS NEW_CONFIGS [--renamed FILE]``.

Every config outside ``_base_`` is read with its bases merged. Settings that a runner or a tool reads must be the same
in value and type, or each difference is printed with the configs that have it, and the command ends with 1; variables
that only other lines of configs use are counted.
"""

import argparse
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from mmengine.runner import Runner

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser
from paif_mm.engine.launch import read_config
from paif_mm.mistakes import reports_mistakes

#: What runners read, and what tools read beside it.
READ = {*inspect.signature(Runner).parameters, 'attack', 'auto_scale_lr', 'custom_imports', 'runner_type'}
READ |= {'tta_model', 'tta_pipeline'}
MISSING = '(missing)'


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Compare the resolved configs of two trees')
    parser.add_argument('old', type=Path, help='folder of configs, e.g. of another git worktree')
    parser.add_argument('new', type=Path, help='folder of configs')
    parser.add_argument('--renamed', type=Path, help="text file, a line for each renamed config: 'OLD.py NEW.py'")
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    for folder in (args.old, args.new):
        if not folder.is_dir():
            raise SystemExit(f'{folder} is not a folder')
    renamed = renames(args.renamed) if args.renamed else {}
    old = {Path(renamed.get(str(path), path)): path for path in names(args.old)}
    new = set(names(args.new))
    read, variables = defaultdict(set), defaultdict(set)
    for name in sorted(old.keys() & new):
        before, after = resolved(args.old / old[name]), resolved(args.new / name)
        for key, a, b in differences(before, after):
            if key.split('.')[0] in READ:
                read[f'{key}: {a!r} -> {b!r}'].add(str(name))
            else:
                variables[key.split('.')[0]].add(str(name))
    for change, found in read.items():
        print(f'{change}\n    in {", ".join(sorted(found))}')
    for key, found in sorted(variables.items()):
        print(f'variable {key} differs, comes or goes in {len(found)} configs')
    for name in sorted(old.keys() - new):
        print(f'{old[name]} is gone')
    for name in sorted(new - old.keys()):
        print(f'{name} is new')
    both, differing = len(old.keys() & new), len(set().union(*read.values()))
    print(f'{both - differing} of {both} configs are the same in all that is read')
    sys.exit(1 if differing or old.keys() - new else 0)


def renames(path: Path) -> dict[str, str]:
    """Old name -> new name.

    Raises:
        SystemExit: a line is no pair of names.
    """
    pairs = [line.split() for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    for pair in pairs:
        if len(pair) != 2:
            raise SystemExit(f"--renamed {path}: '{' '.join(pair)}' is no pair of names: write OLD.py NEW.py")
    return dict(pairs)


def names(folder: Path) -> list[Path]:
    """The configs of a tree, relative to it."""
    return [path.relative_to(folder) for path in folder.rglob('*.py') if '_base_' not in path.parts]


def resolved(path: Path) -> dict:
    """A config with its bases merged. A ``_scope_`` that is the config's own, as mmengine notes it, says nothing."""
    config = read_config(str(path)).to_dict()
    return without_scope(config, config.get('default_scope'))


def without_scope(value, scope: str | None):
    if isinstance(value, dict):
        return {key: without_scope(it, scope) for key, it in value.items() if (key, it) != ('_scope_', scope)}
    if isinstance(value, list | tuple):
        return type(value)(without_scope(it, scope) for it in value)
    return value


def differences(old, new, key: str = '') -> Iterator[tuple[str, object, object]]:
    """(dotted key, old value, new value) of all that differs between two values, in type or in content."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from differences(old.get(name, MISSING), new.get(name, MISSING), f'{key}.{name}'.lstrip('.'))
    elif type(old) is type(new) and isinstance(old, list | tuple) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f'{key}.{i}')
    elif type(old) is not type(new) or old != new:
        yield key, old, new


if __name__ == '__main__':
    main()
