"""What current torch and a machine without a compiler need from OpenMMLab, in one place.

:func:`install` runs on ``import paif_mm`` and does six things, none of which touches a complete installation:

* if mmcv has no compiled operators (``mmcv-lite``), ``mmcv._ext`` becomes a module whose operators are written in torch
  and torchvision (see :mod:`~.operators`), or raise :class:`NotImplementedError` when they are called, not when mmseg
  or mmdet is imported;
* mmseg and mmdet accept mmcv 2.2, and ``mmseg::`` in a config finds mmseg whatever its distribution is called (see
  :mod:`~.libraries`);
* the few classes that mmengine stores in a checkpoint are declared safe, so that it can resume its own files
  under torch's weights-only unpickler;
* mmengine's loaders of checkpoints, from files and from anywhere else, read them weights-only on every torch version;
* mmseg's cross-entropy with class weights takes labels that are ignored (see :mod:`~.ignored_labels`);
* mmpretrain is imported without its language models where transformers is too new for them (see :mod:`~.multimodal`).

:func:`init_cpu_distributed` and :func:`match_gradient_strides` are for several processes, :func:`teach_inferencers` for
mmseg's and mmdet's inferencers, which then take pairs.
"""

from .libraries import accept_mmcv_2_2, find_configs, find_mmseg_by_its_module, require_libraries

require_libraries()

from .distributed import init_cpu_distributed, match_gradient_strides  # noqa: E402
from .ignored_labels import install_ignored_labels  # noqa: E402
from .inferencers import inference_pipeline, teach_inferencers  # noqa: E402
from .loading import install_safe_loading, load_checkpoint_file  # noqa: E402
from .multimodal import leave_out_language_models  # noqa: E402
from .operators import has_compiled_ops, install_operators  # noqa: E402

__all__ = [
    'find_configs',
    'has_compiled_ops',
    'inference_pipeline',
    'init_cpu_distributed',
    'install',
    'load_checkpoint_file',
    'match_gradient_strides',
    'teach_inferencers',
]


def install() -> None:
    """Install what is needed of the above. Idempotent."""
    install_operators()
    accept_mmcv_2_2()
    find_mmseg_by_its_module()
    install_safe_loading()
    install_ignored_labels()
    leave_out_language_models()
