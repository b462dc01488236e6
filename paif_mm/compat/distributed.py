"""Several processes on a machine without a GPU: mmengine calls ``torch.cuda.set_device`` when it starts processes."""

import atexit
import os
from datetime import timedelta

import torch


def init_cpu_distributed(cfg, timeout: timedelta | None = None) -> None:
    """Prepare a config for several CPU processes; does nothing with one process, and with CUDA nothing but look
    whether a launcher is there.

    mmengine's own start-up needs a GPU (``torch.cuda.set_device``, ``device_ids``, NCCL), so the process group is
    made here with gloo and the model is wrapped without device ids. ``cfg.launcher`` stays as it is.

    Args:
        cfg (mmengine.Config): changed in place: ``model_wrapper_cfg`` and synchronised batch norm (CUDA only).
        timeout: for which processes wait for each other. Default: torch's.

    Raises:
        RuntimeError: the launcher gives no rank, world size or master address through the environment.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or (torch.cuda.is_available() and launcher != 'pytorch'):
        return
    for ours, slurm in (('RANK', 'SLURM_PROCID'), ('WORLD_SIZE', 'SLURM_NTASKS'), ('LOCAL_RANK', 'SLURM_LOCALID')):
        if slurm in os.environ and cfg.launcher == 'slurm':
            os.environ.setdefault(ours, os.environ[slurm])
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing:
        raise RuntimeError(
            f'--launcher {launcher} needs {", ".join(missing)} in the environment: start through tools/dist_train.sh '
            'or torchrun'
        )
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
