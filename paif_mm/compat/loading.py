"""Checkpoints are tensors and plain containers: nothing that comes with one is ever run, wherever it comes from."""

import codecs
import io
import os
import pickle
import re
import zlib
from tempfile import TemporaryDirectory
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import checkpoint


def install_safe_loading() -> None:
    """Let mmengine's loaders read weights-only, from all sources, and resume what mmengine saved. Idempotent."""
    _register_safe_globals()
    if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6):
        os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')  # what later versions do by themselves
    loaders = {
        'load_from_local': ('', load_checkpoint_file),
        'load_from_http': (('http://', 'https://'), load_from_http),
        'load_from_pavi': ('pavi://', load_from_pavi),
        'load_from_ceph': ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_ceph),
        'load_from_openmmlab': (('open-mmlab://', 'openmmlab://'), load_from_openmmlab),
    }
    for name, (prefixes, loader) in loaders.items():
        checkpoint.CheckpointLoader.register_scheme(prefixes, loader, force=True)
        setattr(checkpoint, name, loader)  # by this name its other loaders (torchvision://, mmcls://) call it


def load_checkpoint_file(filename: str, map_location=None) -> dict:
    """Read a local checkpoint with torch's weights-only unpickler, never with the unsafe one.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged or holds pickled objects other than tensors and plain containers.
    """
    filename = os.path.expanduser(str(filename))
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'checkpoint {filename} can not be found')
    return _read(filename, filename, map_location)


def load_from_http(filename: str, map_location=None, model_dir: str | None = None, progress: bool = False) -> dict:
    """Download a checkpoint into torch's cache, unless it is there, and read it as :func:`load_checkpoint_file` does.

    The first process downloads before the others look.
    """
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    name, ending = os.path.splitext(os.path.basename(urlparse(filename).path))
    # two addresses may end alike; a name with a part of its hash, as torch's hub wants it, means one file
    own = '' if re.search(r'-[0-9a-f]{8,}$', name) else f'-{zlib.crc32(filename.encode()):08x}'
    path = os.path.join(folder, f'{name}{own}{ending}')
    for turn in (get_rank() == 0, get_rank() > 0):
        if turn and not os.path.isfile(path):  # others on their own machine, if that shares no folder with the first
            os.makedirs(folder, exist_ok=True)
            print_log(f'Downloading {filename} to {path}', 'current')
            torch.hub.download_url_to_file(filename, path, progress=progress)
        barrier()
    return _read(path, f'{filename} ({path})', map_location)


def load_from_pavi(filename: str, map_location=None) -> dict:
    """Download a checkpoint from OpenMMLab's model cloud and read it as :func:`load_checkpoint_file` does.

    Raises:
        ImportError: its client, ``pavi``, is not installed.
    """
    from pavi import modelcloud

    model = modelcloud.get(filename.removeprefix('pavi://'))
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, model.name)
        model.download(path)
        return _read(path, filename, map_location)


def load_from_ceph(filename: str, map_location=None, backend: str = 'petrel') -> dict:
    """Read a checkpoint from an object store (``s3://``, ``petrel://``) as :func:`load_checkpoint_file` does."""
    content = get_file_backend(filename, backend_args={'backend': backend}).get(filename)
    return _read(io.BytesIO(content), filename, map_location)


def load_from_openmmlab(filename: str, map_location=None) -> dict:
    """Download one of OpenMMLab's models by name (``open-mmlab://``), or read it from mmengine's own folder.

    Raises:
        KeyError: mmengine knows no such name.
    """
    name = re.sub('^open-?mmlab://', '', filename)
    name = checkpoint.get_deprecated_model_names().get(name, name)
    url = checkpoint.get_external_models()[name]
    if url.startswith(('http://', 'https://')):
        return load_from_http(url, map_location)
    return load_checkpoint_file(os.path.join(checkpoint._get_mmengine_home(), url), map_location)


def _read(file, name: str, map_location) -> dict:
    """The content of a file, given by path or open; errors call it by ``name``."""
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r'GLOBAL (\S+)|(the attribute .*? load)', str(error))
        reason = reason.group() if reason else 'it is no checkpoint'
        raise RuntimeError(
            f'checkpoint {name} can not be loaded safely ({reason}): save it again as tensors and plain '
            'containers only, e.g. dict(state_dict=...)'
        ) from error
    except (EOFError, RuntimeError) as error:
        raise RuntimeError(f'checkpoint {name} is damaged or is no checkpoint: {error}') from error


def _register_safe_globals() -> None:
    """Declare what mmengine's message hub pickles: log buffers of numpy arrays and numpy scalars."""
    multiarray = (np._core if np.__version__ >= '2' else np.core).multiarray  # numpy 1.26 has a _core, without it
    dtypes = {type(np.dtype(kind)) for kind in ('?', 'i4', 'i8', 'u1', 'u4', 'f4', 'f8', 'U1', 'S1')}
    # codecs.encode: how numpy's scalars hold their bytes; safe by itself for torch >= 2.5
    safe = [
        HistoryBuffer,
        np.ndarray,
        np.dtype,
        *dtypes,
        codecs.encode,
        _alias(_statistics_method, 'builtins', 'getattr'),
    ]
    for function in (multiarray._reconstruct, multiarray.scalar):
        # under the path of numpy 2 and that of numpy 1, whichever wrote the checkpoint
        safe += [_alias(function, f'numpy.{core}.multiarray', function.__name__) for core in ('_core', 'core')]
    torch.serialization.add_safe_globals(safe)


def _statistics_method(owner: type, name: str):
    """All that a checkpoint may do with ``getattr``: name one of HistoryBuffer's own statistics."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise pickle.UnpicklingError(f'the attribute {name} of {owner} is not safe to load')
    return getattr(owner, name)


def _alias(function, module: str, name: str):
    """``function`` under the name by which a pickle asks for it; torch < 2.6 knows no other way to say it."""

    def aliased(*args):
        return function(*args)

    aliased.__module__, aliased.__name__, aliased.__qualname__ = module, name, name
    return aliased
