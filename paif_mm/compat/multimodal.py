"""mmpretrain's language models and a transformers that has become too new for them.

mmpretrain 1.2 imports them wherever transformers 4.28 or later is installed. Some of what they take from it went in
later versions (in 4.57 at the latest), and with them mmpretrain fails to import, and so do mmdet and mmseg, which
import it. Without them it works as where transformers is not installed.
"""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from .on_import import mend_on_import

MODULE = 'mmpretrain.utils.dependency'
NEEDED = 'apply_chunking_to_forward'  # of transformers.modeling_utils


def leave_out_language_models() -> None:
    """Import mmpretrain without its language models where transformers lacks what they need. Idempotent."""
    mend_on_import(MODULE, _mend)


def _mend(module: ModuleType) -> None:
    if getattr(module, 'WITH_MULTIMODAL', False) and not _has_what_is_needed():
        module.WITH_MULTIMODAL = False


def _has_what_is_needed() -> bool:
    """Looks into the file: importing transformers takes seconds."""
    spec = find_spec('transformers')
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [path for path in (Path(folder, 'modeling_utils.py') for folder in folders) if path.is_file()]
    return any(NEEDED in path.read_text(encoding='utf-8') for path in files)
