"""Run a study: ``python tools/study.py PLAN.yaml ... --work-dir DIR [--scale half] [--jobs 2]``.

Trains, tests and attacks every row of a plan with every seed, and writes ``PLAN.csv``, ``PLAN.md`` and ``PLAN.svg``
into the work dir. The same command continues a study that was stopped, and tries again what failed; what plans have in
common is made once.
"""

import argparse
import sys
from pathlib import Path

import craft_attacks
import robustness

from paif_mm.files import write_bytes
from paif_mm.study.figure import draw
from paif_mm.study.launch import KINDS, Launcher, flags
from paif_mm.study.plan import Job, Plan, PlanError, all_jobs
from paif_mm.study.reading import read_plan
from paif_mm.study.schedule import Schedule, finished, interruptible, locked
from paif_mm.study.table import csv_of, markdown


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train, test and attack the rows of a plan, and put them in one table')
    parser.add_argument('plans', nargs='+', metavar='PLAN.yaml', help='plans, e.g. configs/study/table3.yaml')
    parser.add_argument('--work-dir', required=True, help='folder of everything; a study begun there is continued')
    parser.add_argument(
        '--scale',
        help="settings: scales/NAME.yaml beside the plan (half, full), or a path (default: the plan's)",
    )
    parser.add_argument('--seeds', nargs='+', type=int, help="instead of the plan's")
    parser.add_argument('--rows', nargs='+', default=[], help='only these rows')
    parser.add_argument('--jobs', type=int, default=1, help='how many to run at once (default: 1)')
    parser.add_argument('--launcher', choices=KINDS, default='none')
    parser.add_argument('--processes', type=int, default=1, help='GPUs (or CPU processes) per job (default: 1)')
    parser.add_argument('--partition', default='', help='of slurm')
    parser.add_argument('--dry-run', action='store_true', help='show what would be run')
    parser.add_argument('--table', action='store_true', help='only write the tables of what there is')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.jobs < 1 or args.processes < 1:
        raise SystemExit('--jobs and --processes must be at least 1')
    try:
        plans = [read_plan(path, args.work_dir, args.scale, args.seeds) for path in args.plans]
        jobs = all_jobs(plans, args.rows)
        launcher = Launcher(Path(__file__).parent, args.launcher, args.processes, args.jobs, args.partition)
    except (PlanError, ValueError) as error:
        raise SystemExit(str(error)) from None
    check_flags(jobs)
    if args.dry_run:
        return show(jobs)
    try:
        failed = {} if args.table else run(jobs, launcher, plans, args.work_dir)
    except BlockingIOError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit('stopped; the same command goes on') from None
    write_tables(plans, args.work_dir, pictures=True)
    for plan in plans:
        print(f'\n{markdown(plan)}')
        print(f'written to {Path(args.work_dir) / plan.name}.md (also .csv, .svg)')
    if failed:
        sys.exit(f'{len(failed)} of {len(jobs)} jobs failed; the same command tries them again')


def check_flags(jobs: list[Job]) -> None:
    """Refuse flags that the tools don't know before anything is trained."""
    for job in jobs:
        try:
            if job.craft is not None:
                craft_attacks.parse_args(['config', 'checkpoint', 'out', *flags(job.craft)])
            if job.robustness is not None:
                robustness.parse_args(['config', 'checkpoint', '--out', 'out', *flags(job.robustness)])
        except SystemExit:
            tool = 'tools/craft_attacks.py' if job.craft is not None else 'tools/robustness.py'
            raise SystemExit(f'the plan has flags for {job} that {tool} does not know, see above') from None


def run(jobs: list[Job], launcher: Launcher, plans: list[Plan], work_dir: str) -> dict[Path, str]:
    """Run what is not done; tables are written after every job."""
    interruptible()
    with locked(work_dir) as lock:
        return Schedule(jobs, launcher, lambda: write_tables(plans, work_dir), say, lock).run()


def write_tables(plans: list[Plan], work_dir: str, pictures: bool = False) -> None:
    for plan in plans:
        base = Path(work_dir) / plan.name
        write_bytes(f'{base}.csv', csv_of(plan).encode())
        write_bytes(f'{base}.md', markdown(plan).encode())
        if pictures:
            draw(plan, f'{base}.svg')


def show(jobs: list[Job]) -> None:
    """One line per job: what it is, what it needs, what is left to do."""
    for job in jobs:
        left = [stage for stage in job.stages if stage not in finished(job)]
        needs = f', after {" and ".join(map(str, job.needs.values()))}' if job.needs else ''
        print(f'{job}{needs}: {", ".join(left) or "done"} ({job.folder})')


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == '__main__':
    main()
