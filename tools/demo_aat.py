"""Adaptive adversarial training in minutes: ``make aat`` or ``python tools/demo_aat.py [--work-dir DIR]``.

On synthetic street scenes: trains a source model, attacks training pairs through it, meta-initialises another fusion
network on them, trains it adversarially, and tests it clean and under attack. An interrupted run goes on where it
stopped.
"""

import argparse
import json
import time
from pathlib import Path

from demo import ATTACKS, DATA, ROOT, call, table

SOURCE = 'configs/quickstart/segformer_source_synthetic.py'
AAT = 'configs/quickstart/segformer_aat_synthetic.py'
BANK = 'data/banks/synthetic'


def main() -> None:
    parser = argparse.ArgumentParser(description='Meta-initialise and adversarially train on synthetic scenes')
    parser.add_argument('--work-dir', default='work_dirs/aat', help='folder for models, logs and pictures')
    args = parser.parse_args()
    start = time.time()
    source, trained = Path(args.work_dir) / 'source', Path(args.work_dir) / 'aat'
    call('make_synthetic.py', DATA, '--train', 400, '--val', 60, '--size', '96x128')
    call('train.py', SOURCE, '--work-dir', source, '--resume')
    call('craft_attacks.py', SOURCE, (ROOT / source / 'last_checkpoint').read_text(), BANK, '--num', 40)
    call('train.py', AAT, '--work-dir', trained, '--resume')
    checkpoint = (ROOT / trained / 'last_checkpoint').read_text()
    show = ['--show-dir', trained / 'strips', '--work-dir', trained / 'test']
    call('test.py', AAT, checkpoint, '--attack', *ATTACKS, *show)
    newest = max((ROOT / trained / 'test').glob('*/results.json'), key=lambda path: path.stat().st_mtime)
    print(f'\n{table({"AAT": json.loads(newest.read_text())["results"]})}\n')
    print(f"bank: {BANK}; theta': {trained}/theta_prime.pth; pictures: {trained}/strips/*/*.png")
    print(f'aat took {(time.time() - start) / 60:.1f} minutes')


if __name__ == '__main__':
    main()
