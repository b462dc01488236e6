"""What several processes need beyond mmengine: to meet under slurm, machines without GPUs, gradients of one layout."""

import atexit
import os
import subprocess
from collections.abc import MutableMapping
from datetime import timedelta

import torch
from torch import Tensor, nn

#: Of slurm's jobs. Below the ports that Linux gives to outgoing connections (from 32768).
PORTS = range(10000, 30000)


def init_cpu_distributed(cfg, timeout: timedelta | None = None) -> None:
    """Prepare a config for several CPU processes; with CUDA, only say where slurm's processes meet, and look whether
    a launcher is there.

    mmengine's own start-up needs a GPU (``torch.cuda.set_device``, ``device_ids``, NCCL), so the process group is
    made here with gloo and the model is wrapped without device ids. ``cfg.launcher`` stays as it is.

    Args:
        cfg (mmengine.Config): changed in place: ``model_wrapper_cfg`` and synchronised batch norm (CUDA only), which
            the model's layers (``SyncBN``) or ``sync_bn`` ask for.
        timeout: for which processes wait for each other. Default: torch's.

    Raises:
        RuntimeError: the launcher gives no rank, world size or master address through the environment.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'slurm':
        name_meeting_point(os.environ)
    if launcher == 'none' or (torch.cuda.is_available() and launcher != 'pytorch'):
        return
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing:
        how = 'tools/slurm_train.sh or srun' if launcher == 'slurm' else 'tools/dist_train.sh or torchrun'
        raise RuntimeError(f'--launcher {launcher} needs {", ".join(missing)} in the environment: start through {how}')
    if torch.cuda.is_available():  # mmengine starts the processes
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(backend='gloo', timeout=timeout)
        atexit.register(_leave_process_group)  # gloo's threads, left running at exit, now and then abort the process
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    _replace_sync_bn(cfg.model)
    cfg.pop('sync_bn', None)


def name_meeting_point(env: MutableMapping[str, str]) -> None:
    """Translate slurm's variables into torch's; does nothing outside of slurm.

    Processes meet at the first host of their step, at a port made of the numbers of job and step, so that two jobs on
    one host have their own. ``MASTER_ADDR`` and ``MASTER_PORT`` that are set already stay; mmengine, on CUDA, takes
    them as well.

    Args:
        env: the environment, changed in place.

    Raises:
        RuntimeError: ``scontrol``, which takes a list of several hosts apart, is not there.
    """
    for ours, slurm in (('RANK', 'SLURM_PROCID'), ('WORLD_SIZE', 'SLURM_NTASKS'), ('LOCAL_RANK', 'SLURM_LOCALID')):
        if slurm in env:
            env[ours] = env[slurm]
    hosts = env.get('SLURM_STEP_NODELIST') or env.get('SLURM_JOB_NODELIST')
    if hosts and 'MASTER_ADDR' not in env:
        env['MASTER_ADDR'] = _first_host(hosts)
    if 'SLURM_JOB_ID' in env and 'MASTER_PORT' not in env:
        number = int(env['SLURM_JOB_ID']) + 997 * int(env.get('SLURM_STEP_ID', 0))
        env['MASTER_PORT'] = str(PORTS[number % len(PORTS)])


def _first_host(hosts: str) -> str:
    """'node[03-05,08],gpu1' -> 'node03'."""
    if not set(hosts) & set('[,'):
        return hosts
    try:
        command = ['scontrol', 'show', 'hostnames', hosts]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f'{error}: set MASTER_ADDR to the first of the hosts {hosts}') from None


def match_gradient_strides(model: nn.Module) -> None:
    """Let gradients have the strides of their parameters, as DDP's buckets have, also where only numbers differ.

    A dimension of one element may have any stride. Convolutions of one input channel (depthwise ones, stems) on
    features in channels-last layout return gradients of (O, 1, k, k) with strides (k k, 1, k, 1) for weights of
    (k k, k k, k, 1): the same memory, but DDP compares the numbers, warns, and copies element by element.

    Args:
        model: whose parameters get a hook; wrapped or not.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and 1 in parameter.shape and parameter.dim() > 1:
            parameter.register_hook(_Restride(parameter))


class _Restride:
    """Hook of one parameter: its gradient, without a copy, with its strides, if that is the same memory."""

    def __init__(self, parameter: nn.Parameter):
        self.strides = parameter.stride()

    def __call__(self, gradient: Tensor) -> Tensor | None:
        pairs = zip(gradient.shape, gradient.stride(), self.strides, strict=True)
        if gradient.stride() == self.strides or any(size > 1 and a != b for size, a, b in pairs):
            return None
        return gradient.as_strided(gradient.shape, self.strides)


def _leave_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _replace_sync_bn(node) -> None:
    """Turn every ``SyncBN`` of a model config into ``BN``: the synchronised one runs on GPUs only."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    for value in values:
        _replace_sync_bn(value)
    if isinstance(node, dict) and node.get('type') in ('SyncBN', 'MMSyncBN'):
        node['type'] = 'BN'
