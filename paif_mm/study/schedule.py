"""Runs the jobs of a study, several at once, each when what it needs is there."""

import fcntl
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from paif_mm.engine.preemption import CODES
from paif_mm.files import write_json

from .launch import Launcher, write_config
from .plan import Job

STATE = 'state.json'
PATIENCE = 20  # seconds that a process has to end when told to
REPORT_EVERY = 300  # seconds between lines about what is running
PROGRESS = re.compile(r'\[ *(\d+)/(\d+)\]|\] (\d+)/(\d+),')
TAIL = 4000  # bytes of a log to look for it
#: Of a stage that was told to stop: a training's codes, and those with which slurm reports a signal that ends a tool.
STOPPED = {code: code for code in CODES.values()} | {128 + number: code for number, code in CODES.items()}


class StageError(RuntimeError):
    """A stage failed; the message has its last words and its log file."""


class Schedule:
    """Runs jobs and remembers, beside their results, what is done.

    Args:
        jobs: each behind those that it needs.
        launcher: how stages are started.
        after_job: called after every job that ended, well or not.
        say: prints a line.
        lock (int): file that :func:`claimed` yielded.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        launcher: Launcher,
        after_job: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = print,
        lock: int | None = None,
    ):
        self.jobs = list(jobs)
        self.launcher = launcher
        self.after_job = after_job
        self.say = say
        self.inherited = () if lock is None else (lock,)
        self.running: dict[Job, tuple[str, float]] = {}  # stage, begin
        self.told_to_stop = 0  # the code of a stage that was
        self._waiting = list(jobs)
        self._done = {need.folder for job in jobs for need in job.needs.values() if is_done(need)}
        self._failed: dict[Path, str] = {}
        self._slots, self._futures = list(range(launcher.jobs)), {}
        self._reported = time.monotonic()
        self._processes: set[subprocess.Popen] = set()
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> dict[Path, str]:
        """Run what is not done yet.

        Returns:
            dict: folder of each job that failed, or could not begin -> why.

        Raises:
            ValueError: a job needs one that is not among those to run.
        """
        for job in [job for job in self._waiting if is_done(job)]:
            self._waiting.remove(job)
            self._done.add(job.folder)
        with ThreadPoolExecutor(self.launcher.jobs) as pool:
            try:
                while self._waiting or self._futures:
                    self._leave_out()
                    self._begin(pool)
                    self._collect()
                    self._report()
            except BaseException:
                self._stop()
                raise
        return self._failed

    def _leave_out(self) -> None:
        """What needs a job that failed."""
        for job in list(self._waiting):
            lacking = [need for need in job.needs.values() if need.folder in self._failed]
            if lacking:
                self._waiting.remove(job)
                self._failed[job.folder] = f'needs {lacking[0]}, which failed: {self._failed[lacking[0].folder]}'
                self._line(f'{job}: left out, it needs {lacking[0]}, which failed')
                note_error(job, self._failed[job.folder])
                self.after_job()

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        """As many jobs as there is room for, of those whose needs are there."""
        ready = [job for job in self._waiting if all(need.folder in self._done for need in job.needs.values())]
        for job in ready[: len(self._slots)]:
            self._waiting.remove(job)
            slot = self._slots.pop(0)
            self._futures[pool.submit(self._run_job, job, slot)] = job, slot
        if self._waiting and not self._futures:
            raise ValueError(f'{self._waiting[0]} needs a job that is not among those to run')

    def _collect(self) -> None:
        """Jobs that end within a second."""
        for future in wait(self._futures, timeout=1.0, return_when=FIRST_COMPLETED).done:
            job, slot = self._futures.pop(future)
            self._slots.append(slot)
            error = future.result()
            if error:
                self._failed[job.folder] = error
            else:
                self._done.add(job.folder)
            self.after_job()

    def _report(self) -> None:
        """From time to time, what is running and how far it is."""
        if time.monotonic() - self._reported > REPORT_EVERY and self.running:
            self._reported = time.monotonic()
            self._line('running: ' + '; '.join(self._where(job) for job in list(self.running)))

    def _run_job(self, job: Job, slot: int) -> str | None:
        """All stages that are not done; returns why it failed, or None."""
        error = None
        left = [stage for stage in job.stages if stage not in finished(job)]
        try:
            if left:
                write_config(job, self.launcher.processes)
            for stage in left:
                self._run_stage(job, stage, slot)
        except StageError as failure:
            error = str(failure)
        except Exception as failure:  # a row's trouble is a line of the table, not the end of the study
            error = f'{type(failure).__name__}: {failure}'
        self.running.pop(job, None)
        if not self._stopped.is_set():
            note_error(job, error)
            if error:
                self._line(f'{job}: failed: {error}')
        return error

    def _run_stage(self, job: Job, stage: str, slot: int) -> None:
        command = self.launcher.command(job, stage)
        log = job.folder / f'{stage}.log'
        log.parent.mkdir(parents=True, exist_ok=True)
        begin = time.time()
        self.running[job] = stage, begin
        self._line(f'{job}: {stage}')
        with open(log, 'a', encoding='utf-8') as out:
            out.write(f'$ {" ".join(command)}\n')
            out.flush()
            start = {'stdout': out, 'stderr': subprocess.STDOUT, 'start_new_session': True, 'pass_fds': self.inherited}
            with self._lock:
                if self._stopped.is_set():
                    raise StageError('the study was stopped')
                process = subprocess.Popen(command, env=self.launcher.environment(stage, slot), **start)
                self._processes.add(process)
            code = process.wait()
        self._processes.discard(process)
        seconds = time.time() - begin
        if code in STOPPED:
            self.told_to_stop = STOPPED[code]
            raise StageError(f'{stage} was told to stop; the same command goes on (see {log})')
        if code:
            raise StageError(f'{stage} ended with {code}: {last_words(log)} (see {log})')
        note(job, stage, seconds)
        self._line(f'{job}: {stage} done in {_clock(seconds)}')

    def _stop(self) -> None:
        """End all processes; what they have written stays."""
        with self._lock:
            self._stopped.set()
        running = [process for process in list(self._processes) if process.poll() is None]
        for process in running:
            _kill(process, signal.SIGTERM)
        for process in running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                _kill(process, signal.SIGKILL)

    def _line(self, text: str) -> None:
        done = sum(is_done(job) for job in self.jobs)
        left = self._seconds_left()
        eta = f', about {_clock(left)} left' if left is not None else ''
        self.say(f'{datetime.now():%H:%M:%S} [{done}/{len(self.jobs)} jobs{eta}] {text}')

    def _where(self, job: Job) -> str:
        stage, begin = self.running.get(job, ('', time.time()))
        steps = progress(job.folder / f'{stage}.log')
        done = ' {}/{}'.format(*steps) if steps else ''
        return f'{job}: {stage}{done} for {_clock(time.time() - begin)}'

    def _seconds_left(self) -> float | None:
        """From how long the stages of the same name took here so far; None as long as one name has never ended."""
        known, left = defaultdict(list), []
        for job in self.jobs:
            for stage, seconds in finished(job).items():
                known[stage].append(seconds)
            if job.folder in self._failed:
                continue
            left += [(job, stage) for stage in job.stages if stage not in finished(job)]
        if any(stage not in known for _, stage in left):
            return None
        total = 0.0
        for job, stage in left:
            mean = sum(known[stage]) / len(known[stage])
            now, begin = self.running.get(job, (None, 0.0))
            total += max(0.0, mean - (time.time() - begin)) if now == stage else mean
        return total / self.launcher.jobs


def finished(job: Job) -> dict[str, float]:
    """Stages of a job that are done -> how many seconds the last command of each took."""
    seconds = _state(job).get('seconds', {})
    names = {stage: job.output(stage).name for stage in job.stages}
    return {stage: seconds[name] for stage, name in names.items() if name in seconds}


def is_done(job: Job) -> bool:
    """Whether all stages of a job are."""
    return len(finished(job)) == len(job.stages)


def error_of(job: Job) -> str | None:
    """Why the last attempt at a job failed."""
    return _state(job).get('error')


def note(job: Job, stage: str, seconds: float) -> None:
    state = _state(job)
    state.setdefault('seconds', {})[job.output(stage).name] = round(seconds, 1)
    write_json(job.folder / STATE, {**state, 'name': job.name})


def note_error(job: Job, error: str | None) -> None:
    if error or error_of(job):
        write_json(job.folder / STATE, {**_state(job), 'name': job.name, 'error': error})


def progress(log: Path) -> tuple[int, int] | None:
    """(350, 800) of the last ``[350/800]`` or ``] 350/800,`` that a tool wrote into its log."""
    if not log.is_file():
        return None
    with open(log, 'rb') as file:
        file.seek(-min(TAIL, log.stat().st_size), os.SEEK_END)
        found = PROGRESS.findall(file.read().decode(errors='replace'))
    return tuple(int(part) for part in found[-1] if part) if found else None


def last_words(log: Path) -> str:
    """The last line that the last command said, before what torchrun and slurm add to it."""
    said = log.read_text(encoding='utf-8', errors='replace')
    said = re.split(r'^\$ .*$', said, flags=re.MULTILINE)[-1]
    said = re.split(r'^.*torch/distributed/elastic/.*failed \(exitcode', said, flags=re.MULTILINE)[0]
    lines = [line.strip() for line in said.splitlines() if not re.match(r'(srun|slurmstepd): ', line)]
    return next((line for line in reversed(lines) if line), 'it said nothing')[:300]


@contextmanager
def claimed(work_dir: str | Path, shared: bool = False) -> Iterator[int]:
    """Keep other studies out of a folder, as long as this one or a process that inherits the yielded file runs.

    Args:
        work_dir: the folder.
        shared: let others in that share it, too.

    Raises:
        BlockingIOError: one is running there, or was killed and has left a process behind.
    """
    path = Path(work_dir) / 'study.lock'
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f'a study, or a process that a killed one left, is running in {work_dir}: see fuser -v {path}'
            raise BlockingIOError(text) from None
        yield file.fileno()


def interruptible() -> None:
    """Let a polite kill, or a closed terminal, end the study as Ctrl-C does."""

    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup's wish
        signal.signal(signal.SIGHUP, interrupt)


def _kill(process: subprocess.Popen, number: int) -> None:
    """Tell a process and those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _state(job: Job) -> dict:
    path = job.folder / STATE
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'
