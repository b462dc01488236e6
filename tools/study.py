"""Run a study: ``python tools/study.py PLAN.yaml ... --work-dir DIR [--scale half] [--jobs 2]``.

Trains, tests and attacks every row of a plan with every seed, and writes ``PLAN_SCALE.csv``, ``.md`` and ``.svg`` into
the work dir. The same command continues a study that was stopped, and tries again what failed; what plans have in
common is made once. With ``--launcher slurm`` it submits array jobs and ends; once they have, ``--table`` writes the
tables.
"""

import argparse
import sys
from pathlib import Path

import craft_attacks
import robustness

from paif_mm.arguments import Parser, count, output_folder, positive
from paif_mm.files import write_bytes
from paif_mm.mistakes import reports_mistakes
from paif_mm.study.array import SubmitError, submit
from paif_mm.study.figure import draw
from paif_mm.study.launch import KINDS, Launcher, flags, share_batches
from paif_mm.study.plan import Job, Plan, PlanError, all_jobs
from paif_mm.study.reading import read_plan
from paif_mm.study.schedule import Schedule, claimed, error_of, finished, interruptible, is_done, note_error
from paif_mm.study.table import csv_of, markdown


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Train, test and attack the rows of a plan, and put them in one table')
    parser.add_argument('plans', nargs='+', metavar='PLAN.yaml', help='plans, e.g. configs/study/table3.yaml')
    parser.add_argument('--work-dir', required=True, help='folder of everything; a study begun there is continued')
    parser.add_argument(
        '--scale',
        help="settings: scales/NAME.yaml beside the plan (half, full), or a path (default: the plan's)",
    )
    parser.add_argument('--seeds', nargs='+', type=count, help="instead of the plan's")
    parser.add_argument('--rows', nargs='+', default=[], help='only these rows')
    parser.add_argument('--jobs', type=positive, default=1, help='how many to run at once (default: 1)')
    parser.add_argument('--launcher', choices=KINDS, default='none', help='slurm: submit array jobs')
    parser.add_argument('--processes', type=positive, default=1, help='GPUs (or CPU processes) per job (default: 1)')
    parser.add_argument('--partition', default='', help='of slurm')
    parser.add_argument('--job', metavar='FOLDER', help='run this job alone, here: what an element of an array does')
    parser.add_argument('--dry-run', action='store_true', help='show what would be run')
    parser.add_argument('--table', action='store_true', help='only write the tables of what there is')
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    plans = [read_plan(path, args.work_dir, args.scale, args.seeds) for path in args.plans]
    if len({plan.name for plan in plans}) < len(plans):
        raise PlanError(f'two plans would write one table: {", ".join(args.plans)}')
    jobs = all_jobs(plans, args.rows)
    launcher = Launcher(Path(__file__).parent, args.launcher, args.processes, args.jobs, args.partition)
    check(jobs, launcher)
    if args.dry_run:
        return show(jobs)
    output_folder(args.work_dir, '--work-dir')
    try:
        if args.job:
            return run_one(jobs, launcher, args.work_dir, args.job)
        if args.launcher == 'slurm' and not args.table:
            return submit(jobs, launcher, args.work_dir, command(), say)
        failed = {} if args.table else run(jobs, launcher, plans, args.work_dir)
    except (BlockingIOError, SubmitError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit('stopped; the same command goes on') from None
    write_tables(plans, args.work_dir)
    for plan in plans:
        print(f'\n{markdown(plan)}')
        print(f'written to {args.work_dir}: {", ".join(write_picture(plan, args.work_dir))}')
    if failed:
        sys.exit(f'{len(failed)} of {len(jobs)} jobs failed; the same command tries them again')


def check(jobs: list[Job], launcher: Launcher) -> None:
    """Refuse flags that the tools don't know, and batches that processes can't share, before anything is trained."""
    for job in jobs:
        try:
            if job.config is not None:
                share_batches(job, launcher.processes)
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
    with claimed(work_dir) as lock:
        return Schedule(jobs, launcher, lambda: write_tables(plans, work_dir), say, lock).run()


def run_one(jobs: list[Job], launcher: Launcher, work_dir: str, folder: str) -> None:
    """Run one job, whose needs are to be there.

    Raises:
        SystemExit: it is no job of these plans, or failed, or was told to stop (then with the stage's code).
    """
    job = next((job for job in jobs if job.folder == Path(work_dir) / folder), None)
    if job is None:
        raise SystemExit(f'{folder} is no job of {work_dir}: the plan has changed')
    for need in job.needs.values():
        if not is_done(need):
            error = f'needs {need}, which failed: {error_of(need) or "it did not run"}'
            note_error(job, error)
            raise SystemExit(f'{job} {error}')
    with claimed(work_dir, shared=True), claimed(job.folder) as lock:
        schedule = Schedule([job], launcher, say=say, lock=lock)
        failed = schedule.run()
    if failed:
        sys.exit(schedule.told_to_stop or 1)


def command() -> list[str]:
    """What was typed, as it can be typed anywhere."""
    return [sys.executable, '-W', 'ignore', str(Path(__file__).resolve()), *sys.argv[1:]]


def write_tables(plans: list[Plan], work_dir: str) -> None:
    for plan in plans:
        write_bytes(Path(work_dir) / f'{plan.name}.csv', csv_of(plan).encode())
        write_bytes(Path(work_dir) / f'{plan.name}.md', markdown(plan).encode())


def write_picture(plan: Plan, work_dir: str) -> list[str]:
    """Draw what there is; returns the names of all files of the plan."""
    picture = Path(work_dir) / f'{plan.name}.svg'
    picture.unlink(missing_ok=True)
    drawn = draw(plan, picture)
    return [f'{plan.name}.{suffix}' for suffix in ('md', 'csv', *(['svg'] if drawn else []))]


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
