"""What the benchmarks share about the device they run on: which it is, its clock, and the peak memory of a step."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch


def prepared_device() -> torch.device:
    """A GPU if there is one, with convolutions tuned as in training (``env_cfg.cudnn_benchmark``); else the CPU."""
    torch.backends.cudnn.benchmark = True
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def synchronize() -> None:
    """Wait for what a GPU is still doing, so that a clock may be read."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clock(of_process: bool = True) -> float:
    """Seconds, read when a GPU has done what it was given; on a CPU those that all threads of this process took.

    Other programs disturb these least; ``of_process=False`` reads the clock on the wall, which several threads share.
    """
    synchronize()
    return time.process_time() if of_process and not torch.cuda.is_available() else time.perf_counter()


def peak_memory() -> Callable[[], float]:
    """Start watching memory: the GPU's allocations if there is one, else this process's (Linux).

    The returned function gives the rise to its peak, in MiB.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        return lambda: (torch.cuda.max_memory_allocated() - allocated) / 2**20
    Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
    before = _memory('VmRSS')
    return lambda: (_memory('VmHWM') - before) / 1024


def peak_of(step: Callable) -> float:
    """Rise of memory to its peak while a step runs, MiB."""
    step()  # makes what stays: tuned kernels, states of optimizers
    if not torch.cuda.is_available():
        ctypes.CDLL(None).malloc_trim(0)  # what earlier steps freed must not hide what this one takes
    peak = peak_memory()
    step()
    return peak()


def _memory(field: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))  # kB
