"""Trainings that are told to stop, by slurm before a time limit for one, and can be gone on with."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

import torch
from mmengine.dist import all_reduce, barrier
from torch.utils.data import DataLoader

#: Signal -> code with which the training then exits: 'time is nearly up: start me again' (sysexits.h), or 'ended by
#: somebody', as shells write it. None where there are no such signals.
CODES = {signal.SIGUSR1: os.EX_TEMPFAIL, signal.SIGTERM: 128 + signal.SIGTERM} if os.name == 'posix' else {}

_heard: dict[str, int | None] = {'code': None}  # None: nobody listens; 0: nothing was heard


@contextmanager
def listening() -> Iterator[None]:
    """Let SIGUSR1 and SIGTERM be heard by :func:`asked_to_stop` instead of ending this process at once."""

    def hear(number, frame):
        _heard['code'] = _heard['code'] or CODES[number]  # the first decides

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return
    before = {number: signal.signal(number, hear) for number in CODES}
    _heard['code'] = 0
    try:
        yield
    finally:
        leaving, _heard['code'] = _heard['code'], None
        for number, handler in before.items():  # others that end at once must not turn this exit into another
            signal.signal(number, signal.SIG_IGN if leaving else handler)


def asked_to_stop() -> int:
    """The code to :func:`leave` with, or 0: the same in all processes, whichever of them heard a signal.

    All processes must call it at the same places. It costs one all-reduce of a number.
    """
    if _heard['code'] is None:
        return 0
    code = torch.tensor(_heard['code'])
    all_reduce(code, op='max')
    _heard['code'] = int(code) or _heard['code']  # which may have been heard just now: then the next call tells it
    return int(code)


def leave(code: int) -> NoReturn:
    """End this process, once all processes are here: what the main process had to write is written.

    Raises:
        SystemExit: with the code.
    """
    barrier()
    raise SystemExit(code)


def shield_workers(loader: DataLoader) -> DataLoader:
    """Let the workers of a data loader live until the training process ends them; changed in place.

    Slurm signals every process of a job. A worker that ends on its own would take the training with it, at any point.
    """
    if loader.num_workers and hasattr(signal, 'sigwaitinfo'):
        loader.worker_init_fn = partial(_start_worker, os.getpid(), loader.worker_init_fn)
    return loader


def _start_worker(trainer: int, then: Callable[[int], None] | None, worker: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, CODES)
    threading.Thread(target=_obey, args=(trainer,), daemon=True).start()
    if then is not None:
        then(worker)


def _obey(trainer: int) -> None:
    while True:
        heard = signal.sigwaitinfo(CODES)
        if heard.si_signo == signal.SIGTERM and heard.si_pid == trainer:
            os._exit(0)


_masks: list = []  # of the process that forks


def _before_fork() -> None:
    if _heard['code'] is not None:
        _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, CODES))


def _after_fork_in_parent() -> None:
    if _masks:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    """A process forked while this one listens, as those of a metric's pool, ends when it is told.

    A signal that comes as it starts would be lost with Python's handler: pools wait for ever then.
    """
    if _masks:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # slurm signals every process of a job
        _heard['code'] = None
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


if CODES:
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
