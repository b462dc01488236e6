"""What current torch and a machine without a compiler need from OpenMMLab, in one place.

:func:`install` runs on ``import paif_mm`` and does four things, none of which touches a complete installation:

* if mmcv has no compiled operators (``mmcv-lite``), ``mmcv._ext`` becomes a module whose operators are written in torch
  and torchvision (see :mod:`~.operators`), or raise :class:`NotImplementedError` when they are called, not when mmseg
  or mmdet is imported;
* the few classes that mmengine stores in a checkpoint are declared safe, so that it can resume its own files
  under torch's weights-only unpickler;
* mmengine's loaders of checkpoints, from files and from anywhere else, read them weights-only on every torch version;
* mmseg's cross-entropy with class weights takes labels that are ignored (see :mod:`~.ignored_labels`).

:func:`init_cpu_distributed` and :func:`match_gradient_strides` are for several processes.
"""

import importlib.util

from .distributed import init_cpu_distributed, match_gradient_strides
from .ignored_labels import install_ignored_labels
from .loading import install_safe_loading, load_checkpoint_file
from .operators import has_compiled_ops, install_operators

__all__ = ['has_compiled_ops', 'init_cpu_distributed', 'install', 'load_checkpoint_file', 'match_gradient_strides']


def install() -> None:
    """Install what is needed of the above. Idempotent.

    Raises:
        ImportError: there is no mmcv at all.
    """
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError('paif_mm needs mmcv 2.x: pip install "mmcv-lite>=2.1,<2.2", or the compiled mmcv')
    install_operators()
    install_safe_loading()
    install_ignored_labels()
