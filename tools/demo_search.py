"""The architecture search in minutes: ``make search`` or ``python tools/demo_search.py [--work-dir DIR]``.

Makes synthetic street scenes, searches the fusion network's operations, retrains the found network adversarially, and
tests it clean and under attack. An interrupted run goes on where it stopped.
"""

import argparse
import time
from pathlib import Path

from demo import ATTACKS, call, last_checkpoint, latest_results, make_data, table

SEARCH = 'configs/quickstart/segformer_hds_synthetic.py'
RETRAIN = 'configs/quickstart/segformer_hds_retrain_sat_synthetic.py'


def main() -> None:
    parser = argparse.ArgumentParser(description='Search a fusion network on synthetic scenes and retrain it')
    parser.add_argument('--work-dir', default='work_dirs/search', help='folder for models, logs and pictures')
    args = parser.parse_args()
    start = time.time()
    search, retrained = Path(args.work_dir) / 'hds', Path(args.work_dir) / 'retrained'
    make_data()
    call('train.py', SEARCH, '--work-dir', search, '--resume')
    genotype = search / 'genotype.json'
    call('show_genotype.py', genotype)
    options = ['--cfg-options', f'model.data_preprocessor.fusion.genotype={genotype}']
    call('train.py', RETRAIN, '--work-dir', retrained, '--resume', *options)
    checkpoint = last_checkpoint(retrained)
    call('test.py', RETRAIN, checkpoint, '--attack', *ATTACKS, '--work-dir', retrained / 'test', *options)
    print(f'\n{table({"searched, SAT": latest_results(retrained / "test")})}\n')
    print(f'genotype: {genotype}, drawn in genotype.png; over time in architecture.png')
    print(f'search took {(time.time() - start) / 60:.1f} minutes')


if __name__ == '__main__':
    main()
