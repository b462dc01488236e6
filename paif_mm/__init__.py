"""Perception-aware infrared-visible fusion for attack-tolerant perception, on OpenMMLab 2.x.

Importing this package is enough for a config: ``custom_imports = dict(imports=['paif_mm'])``.
"""

from . import compat

compat.install()

from . import imagenet, registry, zoo  # noqa: E402, F401
from .version import __version__  # noqa: E402

compat.find_configs(zoo.config_file)

__all__ = ['__version__']
