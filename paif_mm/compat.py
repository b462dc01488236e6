"""What current torch and a machine without a compiler need from OpenMMLab, in one place.

:func:`install` runs on ``import paif_mm`` and does three things, none of which touches a complete installation:

* if mmcv has no compiled operators (``mmcv-lite``), ``mmcv._ext`` becomes a module whose ``nms``,
  ``sigmoid_focal_loss_*`` and ``roi_align_*`` are written in torch and torchvision, and whose other operators raise
  :class:`NotImplementedError` when they are called, not when mmseg or mmdet is imported;
* the few classes that mmengine stores in a checkpoint are declared safe, so that it can resume its own files
  under torch's weights-only unpickler;
* mmengine's loader of local files reads them weights-only on every torch version.

:func:`init_cpu_distributed` is for launchers: mmengine calls ``torch.cuda.set_device`` when it starts processes.
"""

import atexit
import importlib.util
import os
import pickle
import re
import sys
import types
from datetime import timedelta
from importlib.machinery import ModuleSpec

import numpy as np
import torch
from torch import Tensor

_EXT = 'mmcv._ext'


def install() -> None:
    """Install the operator fallback (if it is needed) and safe checkpoint loading. Idempotent.

    Raises:
        ImportError: there is no mmcv at all.
    """
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError('paif_mm needs mmcv 2.x: pip install "mmcv-lite>=2.1,<2.2", or the compiled mmcv')
    if not has_compiled_ops() and _EXT not in sys.modules:
        import mmcv

        mmcv._ext = sys.modules[_EXT] = _FallbackOps()
    _register_safe_globals()
    _load_local_checkpoints_weights_only()


def has_compiled_ops() -> bool:
    """Whether the installed mmcv brings its own compiled operators."""
    if isinstance(sys.modules.get(_EXT), _FallbackOps):
        return False
    return _EXT in sys.modules or importlib.util.find_spec(_EXT) is not None


# ---------------------------------------------------------------------------------------------------- operators


class _FallbackOps(types.ModuleType):
    """Stands in for ``mmcv._ext``: every operator name exists, as mmcv checks on import."""

    def __init__(self):
        super().__init__(_EXT, doc=__doc__)
        self.__spec__ = ModuleSpec(_EXT, loader=None)  # mmengine's environment report asks for one
        self.nms = _nms
        self.sigmoid_focal_loss_forward = _sigmoid_focal_loss_forward
        self.sigmoid_focal_loss_backward = _sigmoid_focal_loss_backward
        self.roi_align_forward = _roi_align_forward
        self.roi_align_backward = _roi_align_backward
        self.get_compiler_version = self.get_compiling_cuda_version = lambda: 'not compiled (paif_mm fallback)'

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise NotImplementedError(
                f'mmcv operator "{name}" is compiled code, and this mmcv has none: install the full mmcv '
                '(pip install -U openmim && mim install mmcv) or choose a model that does without it'
            )

        return missing


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the kept boxes (K,), by falling score; ``offset=1`` means inclusive corners (width x2 - x1 + 1)."""
    from torchvision.ops import nms

    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return nms(boxes, scores, iou_threshold)


def _focal_terms(logits: Tensor, target: Tensor, weight: Tensor, alpha: float):
    """One-hot target, class factor and probabilities shared by the focal loss and its gradient, (N, C) each."""
    classes = torch.arange(logits.size(1), device=logits.device)
    positive = target[:, None] == classes  # target == C is background: no positive class
    factor = torch.where(positive, alpha, 1 - alpha).to(logits)
    if weight.numel():
        padded = torch.cat([weight, weight.new_ones(1)])  # background weighs 1
        factor = factor * padded[target][:, None]
    return positive, factor, logits.sigmoid()


def _sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the element-wise focal loss (Lin et al. 2017) of logits (N, C) into ``output``.

    With p_t the probability of the right answer: ``-alpha_t (1 - p_t)^gamma log p_t``.
    """
    positive, factor, p = _focal_terms(input, target, weight, alpha)
    wrong = torch.where(positive, 1 - p, p)  # 1 - p_t
    log_right = torch.nn.functional.logsigmoid(torch.where(positive, input, -input))
    output.copy_(-factor * wrong.pow(gamma) * log_right)


def _sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write d loss / d logits (N, C) into ``grad_input``.

    For s = +1 on the positive class and -1 elsewhere:
    ``s alpha_t (1 - p_t)^gamma (gamma p_t log p_t - (1 - p_t))``.
    """
    positive, factor, p = _focal_terms(input, target, weight, alpha)
    wrong = torch.where(positive, 1 - p, p)
    log_right = torch.nn.functional.logsigmoid(torch.where(positive, input, -input))
    sign = torch.where(positive, 1.0, -1.0).to(input)
    grad_input.copy_(sign * factor * wrong.pow(gamma) * (gamma * (1 - wrong) * log_right - wrong))


def _roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled features (K, C, aligned_height, aligned_width) of rois (K, 5) into ``output``."""
    from torchvision.ops import roi_align

    _require_average(pool_mode)
    output.copy_(roi_align(input, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned))


def _roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write d / d input (N, C, H, W) into ``grad_input``."""
    from torchvision.ops import roi_align

    _require_average(pool_mode)
    with torch.enable_grad():  # the pooling is linear: its gradient is the same at any input
        features = torch.zeros_like(grad_input, requires_grad=True)
        pooled = roi_align(features, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
        grad_input.copy_(torch.autograd.grad(pooled, features, grad_output)[0])


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError('RoIAlign with pool_mode="max" needs the full mmcv, with compiled operators')


# -------------------------------------------------------------------------------------------------- checkpoints


def _register_safe_globals() -> None:
    """Declare what mmengine's message hub pickles: log buffers of numpy arrays and numpy scalars."""
    from mmengine.logging import HistoryBuffer

    multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
    dtypes = {type(np.dtype(kind)) for kind in ('?', 'i4', 'i8', 'u1', 'u4', 'f4', 'f8', 'U1', 'S1')}
    safe = [HistoryBuffer, np.ndarray, np.dtype, *dtypes, _alias(_statistics_method, 'builtins', 'getattr')]
    for function in (multiarray._reconstruct, multiarray.scalar):
        # under the path of numpy 2 and that of numpy 1, whichever wrote the checkpoint
        safe += [_alias(function, f'numpy.{core}.multiarray', function.__name__) for core in ('_core', 'core')]
    torch.serialization.add_safe_globals(safe)


def _statistics_method(owner: type, name: str):
    """All that a checkpoint may do with ``getattr``: name one of HistoryBuffer's own statistics."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise pickle.UnpicklingError(f'the attribute {name} of {owner} is not safe to load')
    return getattr(owner, name)


def _alias(function, module: str, name: str):
    """``function`` under the name by which a pickle asks for it; torch < 2.6 knows no other way to say it."""

    def aliased(*args):
        return function(*args)

    aliased.__module__, aliased.__name__, aliased.__qualname__ = module, name, name
    return aliased


def load_checkpoint_file(filename: str, map_location=None) -> dict:
    """Read a local checkpoint with torch's weights-only unpickler, never with the unsafe one.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged or holds pickled objects other than tensors and plain containers.
    """
    filename = os.path.expanduser(str(filename))
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'checkpoint {filename} can not be found')
    try:
        return torch.load(filename, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r'GLOBAL (\S+)|(the attribute .*? load)', str(error))
        reason = reason.group() if reason else 'it is no checkpoint'
        raise RuntimeError(
            f'checkpoint {filename} can not be loaded safely ({reason}): save it again as tensors and plain '
            'containers only, e.g. dict(state_dict=...)'
        ) from error
    except (EOFError, RuntimeError) as error:
        raise RuntimeError(f'checkpoint {filename} is damaged or is no checkpoint: {error}') from error


def _load_local_checkpoints_weights_only() -> None:
    from mmengine.runner import CheckpointLoader

    CheckpointLoader.register_scheme(prefixes='', loader=load_checkpoint_file, force=True)
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6):
        # The default of later versions, for the downloads that mmengine reads through torch.hub.
        os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')


# -------------------------------------------------------------------------------------------------- distributed


def init_cpu_distributed(cfg, timeout: timedelta | None = None) -> None:
    """Prepare a config for several CPU processes; does nothing with one process or with CUDA.

    mmengine's own start-up needs a GPU (``torch.cuda.set_device``, ``device_ids``, NCCL), so the process group is
    made here with gloo and the model is wrapped without device ids. ``cfg.launcher`` stays as it is.

    Args:
        cfg (mmengine.Config): changed in place: ``model_wrapper_cfg`` and synchronised batch norm (CUDA only).
        timeout: for which processes wait for each other. Default: torch's.

    Raises:
        RuntimeError: the launcher gives no rank, world size or master address through the environment.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    for ours, slurm in (('RANK', 'SLURM_PROCID'), ('WORLD_SIZE', 'SLURM_NTASKS'), ('LOCAL_RANK', 'SLURM_LOCALID')):
        if slurm in os.environ and cfg.launcher == 'slurm':
            os.environ.setdefault(ours, os.environ[slurm])
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing:
        raise RuntimeError(
            f'--launcher {cfg.launcher} on a CPU-only machine needs {", ".join(missing)} in the environment: '
            'start through tools/dist_train.sh or torchrun'
        )
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
