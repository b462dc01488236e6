"""Adaptive adversarial training in minutes: ``make aat`` or ``python tools/demo_aat.py [--work-dir DIR]``.

On synthetic street scenes: trains a source model, attacks training pairs through it, meta-initialises another fusion
network on them, trains it adversarially, and tests it clean and under attack. An interrupted run goes on where it
stopped.
"""

import argparse
import time
from pathlib import Path

from demo import ATTACKS, call, last_checkpoint, latest_results, make_data, table

SOURCE = 'configs/quickstart/segformer_source_synthetic.py'
AAT = 'configs/quickstart/segformer_aat_synthetic.py'
BANK = 'data/banks/synthetic'


def main() -> None:
    parser = argparse.ArgumentParser(description='Meta-initialise and adversarially train on synthetic scenes')
    parser.add_argument('--work-dir', default='work_dirs/aat', help='folder for models, logs and pictures')
    args = parser.parse_args()
    start = time.time()
    source, trained = Path(args.work_dir) / 'source', Path(args.work_dir) / 'aat'
    make_data()
    call('train.py', SOURCE, '--work-dir', source, '--resume')
    call('craft_attacks.py', SOURCE, last_checkpoint(source), BANK, '--num', 40)
    call('train.py', AAT, '--work-dir', trained, '--resume')
    checkpoint = last_checkpoint(trained)
    show = ['--show-dir', trained / 'strips', '--work-dir', trained / 'test']
    call('test.py', AAT, checkpoint, '--attack', *ATTACKS, *show)
    print(f'\n{table({"AAT": latest_results(trained / "test")})}\n')
    print(f"bank: {BANK}; theta': {trained}/theta_prime.pth; pictures: {trained}/strips/*/*.png")
    print(f'aat took {(time.time() - start) / 60:.1f} minutes')


if __name__ == '__main__':
    main()
