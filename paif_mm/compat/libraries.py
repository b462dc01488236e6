"""OpenMMLab's libraries, whichever distributions they come from: the original ones or their successors (onedl-...)."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

HOW = (
    'pip install -e ".[openmmlab]" -r requirements/mminstall.txt (or, for the maintained successors, -e ".[onedl]") '
    'in the folder of paif_mm installs all of OpenMMLab that it needs'
)


def require_libraries() -> None:
    """Raises ImportError unless there are mmengine, mmcv and mmseg."""
    missing = [name for name in ('mmengine', 'mmcv', 'mmseg') if find_spec(name) is None]
    if missing:
        raise ImportError(f'paif_mm needs {" and ".join(missing)}: {HOW}')


def accept_mmcv_2_2() -> None:
    """Import mmseg 1.2 and mmdet 3.3 with mmcv 2.2, which came after them and which they refuse by its number alone."""
    import mmcv

    number = mmcv.__version__
    if not number.startswith('2.2.'):
        return
    mmcv.__version__ = '2.1.0'
    try:
        for name in ('mmseg', 'mmdet'):
            if find_spec(name) is not None:
                import_module(name)
    finally:
        mmcv.__version__ = number


def find_mmseg_by_its_module() -> None:
    """Let ``mmseg::`` in a config's ``_base_`` find mmseg where its distribution is not called mmsegmentation."""
    from mmengine.config.utils import MODULE2PACKAGE

    try:
        version('mmsegmentation')
    except PackageNotFoundError:
        MODULE2PACKAGE['mmseg'] = 'mmseg'


def find_configs(config_file: Callable[[str], str]) -> None:
    """Let configs name configs of this package in ``_base_``; ``config_file`` gives another path only for these.

    mmengine knows its own libraries' alone, and would look for every name of the base in this package's registries.
    """
    from mmengine.config import Config

    original = Config._get_cfg_path
    if hasattr(original, 'finds_own'):
        return

    def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        found = config_file(cfg_path)
        return original(cfg_path, filename) if found == cfg_path else (found, None)

    _get_cfg_path.finds_own = True
    Config._get_cfg_path = staticmethod(_get_cfg_path)
