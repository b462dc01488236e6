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
#: somebody', as shells write it.
CODES = {signal.SIGUSR1: os.EX_TEMPFAIL, signal.SIGTERM: 128 + signal.SIGTERM}

_heard: dict[str, int | None] = {'code': None}  # None: nobody listens; 0: nothing was heard


@contextmanager
def listening() -> Iterator[None]:
    """Let SIGUSR1 and SIGTERM be heard by :func:`asked_to_stop` instead of ending this process at once."""

    listener = os.getpid()

    def hear(number, frame):
        if os.getpid() == listener:
            _heard['code'] = _heard['code'] or CODES[number]  # the first decides
        elif number == signal.SIGTERM:  # of a process forked meanwhile: how pools of metrics end theirs
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

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
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
    return loader


def _start_worker(then: Callable[[int], None] | None, worker: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, CODES)
    threading.Thread(target=_obey_parent, daemon=True).start()
    if then is not None:
        then(worker)


def _obey_parent() -> None:
    while True:
        heard = signal.sigwaitinfo(CODES)
        if heard.si_signo == signal.SIGTERM and heard.si_pid == os.getppid():
            os._exit(0)
