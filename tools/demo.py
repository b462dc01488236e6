"""The project's main job in minutes: ``make demo`` or ``python tools/demo.py [--work-dir DIR]``.

Makes synthetic street scenes, trains a small fused SegFormer twice (in general, and adversarially), tests both clean
and under attack, and prints one table. An interrupted demo goes on where it stopped.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from prettytable import PrettyTable

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    'general': 'configs/quickstart/segformer_general_synthetic.py',
    'SAT': 'configs/quickstart/segformer_sat_synthetic.py',
}
ATTACKS = ['pgd5_eps4', 'pgd5_eps8']
DATA = 'data/synthetic'


def main() -> None:
    parser = argparse.ArgumentParser(description='Train and attack a small fused SegFormer on synthetic scenes')
    parser.add_argument('--work-dir', default='work_dirs/demo', help='folder for models, logs and pictures')
    args = parser.parse_args()
    start = time.time()
    work_dir = Path(args.work_dir)
    make_data()
    pictures = work_dir / 'browse'
    call('browse_dataset.py', MODELS['general'], '--output-dir', pictures, '--show-number', 12)
    results = {}
    for name, config in MODELS.items():
        folder = work_dir / name.lower()
        call('train.py', config, '--work-dir', folder, '--resume')
        checkpoint = last_checkpoint(folder)
        show = ['--show-dir', folder / 'strips', '--work-dir', folder / 'test']
        call('test.py', config, checkpoint, '--attack', *ATTACKS, *show)
        results[name] = latest_results(folder / 'test')
    print(f'\n{table(results)}\n')
    print(f'data:    {pictures}/*.png (infrared | visible | labels)')
    for name in MODELS:
        print(f'{name:8} {work_dir / name.lower()}/strips/*/*.png (what it saw, fused and said; clean and attacked)')
    print(f'demo took {(time.time() - start) / 60:.1f} minutes')


def make_data() -> None:
    call('make_synthetic.py', DATA, '--train', 400, '--val', 60, '--size', '96x128')


def last_checkpoint(work_dir: Path) -> str:
    """What a training wrote last."""
    name = Path((ROOT / work_dir / 'last_checkpoint').read_text()).name  # its path is stale where the demo was moved
    return str(work_dir / name)


def latest_results(work_dir: Path) -> dict:
    """Test name -> metrics of the newest results.json of a test."""
    newest = max((ROOT / work_dir).glob('*/results.json'), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text())['results']


def call(tool: str, *args) -> None:
    print(f'\n$ python tools/{tool} {" ".join(map(str, args))}', flush=True)
    command = [sys.executable, '-W', 'ignore', str(ROOT / 'tools' / tool), *map(str, args)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit(f'tools/{tool} failed, see above')


def table(results: dict) -> str:
    """mIoU of each model under each test."""
    tests = ['clean', *ATTACKS]
    drawn = PrettyTable(['mIoU (mmseg), %', *tests])
    for name, rows in results.items():
        drawn.add_row([name, *(f'{rows[test]["metrics"]["mIoU"]:.2f}' for test in tests)])
    drawn.align = 'r'
    return drawn.get_string()


if __name__ == '__main__':
    main()
