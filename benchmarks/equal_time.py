"""How many iterations of each row of a study cost the same: ``python benchmarks/equal_time.py PLAN --seconds 240``.

Runs a few training iterations of every row through the Runner, hooks, loading of data and all, in rounds that
take turns, and prints the median process CPU time of one, how many fit into the given time, and what those of the plan
cost. Use one thread and no workers (``OMP_NUM_THREADS=1``, ``train_dataloader.num_workers: 0`` in the plan), so that
this is the time that the training takes on an idle machine. Ends with one JSON line: row -> iterations.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

import paif_mm  # noqa: F401
from paif_mm.engine.runner import QuietRunner
from paif_mm.study.reading import read_plan

WARM_UP = 2


class Stopwatch(Hook):
    """Process CPU time of every iteration but the first ones."""

    priority = 'LOWEST'  # whatever others do after an iteration belongs to it

    def __init__(self):
        self.stamps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.stamps.append(time.process_time())

    def seconds(self) -> list[float]:
        stamps = self.stamps[WARM_UP - 1 :]
        return [after - before for before, after in zip(stamps, stamps[1:], strict=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('plan', help='a plan of a study')
    parser.add_argument('--scale', help='as of tools/study.py')
    parser.add_argument('--seconds', type=float, required=True, help='CPU time that every row gets')
    parser.add_argument('--iters', type=int, default=10, help='iterations of a row in a round (default: 10)')
    parser.add_argument('--rounds', type=int, default=3, help='(default: 3)')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {row.name: row.jobs[0].config for row in read_plan(args.plan, folder, args.scale).rows}
        times = {name: [] for name in rows}
        for turn in range(args.rounds):
            for i, (name, config) in enumerate(rows.items()):
                times[name] += iterations(config, f'{folder}/{turn}_{i}', args.iters)
    print(f'{args.plan}: {args.rounds} rounds of {args.iters} iterations, {torch.get_num_threads()} threads')
    fitting = {}
    for name, config in rows.items():
        cost, planned = statistics.median(times[name]), config.train_cfg.max_iters
        fitting[name] = round(args.seconds / cost)
        print(
            f'{name}: {cost:.3f} s an iteration, {fitting[name]} in {args.seconds:g} s; {planned} of the plan take '
            f'{planned * cost:.0f} s'
        )
    print(json.dumps(fitting))


def iterations(config: Config, work_dir: str, count: int) -> list[float]:
    """Seconds of iterations of a row's training, from untrained weights."""
    config = copy.deepcopy(config)
    config.work_dir, config.launcher, config.load_from = work_dir, 'none', None
    config.train_cfg.update(max_iters=count + WARM_UP, val_begin=count + WARM_UP + 1)
    config.default_hooks.checkpoint = None
    config.log_level = 'WARNING'
    config.experiment_name = work_dir.replace('/', '_')
    runner, stopwatch = QuietRunner.from_cfg(config), Stopwatch()
    runner.register_hook(stopwatch)
    runner.train()
    return stopwatch.seconds()


if __name__ == '__main__':
    main()
