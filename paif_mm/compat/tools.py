"""What ``paif mim`` does: tools of OpenMMLab's libraries, as ``mim run`` finds them, with paif_mm imported first."""

import argparse
import runpy
import sys
from importlib import import_module
from pathlib import Path

from paif_mm.mistakes import reports_mistakes
from paif_mm.spelling import choices

LIBRARIES = ('mmseg', 'mmdet', 'mmpretrain')


@reports_mistakes
def mim(words: list[str]) -> int:
    """Run a tool in this process; its own exit is the command's."""
    parser = argparse.ArgumentParser(
        prog='paif mim',
        description='Run a tool that comes with mmseg, mmdet or mmpretrain. As paif_mm is imported first, it finds our '
        'transforms and data sets, and operators that mmcv-lite does not have.',
        epilog='example:\n  paif mim mmseg confusion_matrix CONFIG out/clean work_dirs/confusion',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('library', choices=LIBRARIES)
    parser.add_argument('tool', help='its name, e.g. confusion_matrix, analyze_logs, browse_dataset')
    parser.add_argument('words', nargs=argparse.REMAINDER, help='what the tool takes')
    args = parser.parse_args(words)
    path = find_tool(args.library, args.tool)
    sys.argv = [str(path), *args.words]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name='__main__')
    return 0


def find_tool(library: str, name: str) -> Path:
    """The file of a library's tool.

    Raises:
        FileNotFoundError: it has no such tool.
    """
    folder = Path(import_module(library).__file__).parent / '.mim' / 'tools'
    tools = {path.stem: path for path in sorted(folder.rglob('*.py'), reverse=True)}
    if name not in tools:
        raise FileNotFoundError(f'{library} has no tool {name}: {choices(name, tools)}')
    return tools[name]
