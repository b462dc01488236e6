"""Trained models in the package: ``load_from='paif_mm://NAME'``, ``python tools/test.py paif_mm://NAME``.

``model-index.yml`` and its metafiles are OpenMMLab's: names, configs, figures and where they come from. A model's
weights lie beside its metafile, in half precision where that changes no figure by more than .1; they are read
weights-only if their hash is the metafile's, and come back in single precision. ``python -m paif_mm.zoo`` lists all.
``tools/publish_model.py`` makes the files.
"""

from pathlib import Path
from typing import NamedTuple

import mmengine
import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from paif_mm.compat import load_checkpoint_file
from paif_mm.files import file_hash
from paif_mm.spelling import choices

SCHEME = 'paif_mm://'
CONFIGS = 'paif_mm::'  # as OpenMMLab's 'mmseg::'
FOLDER = Path(__file__).parent
INDEX = FOLDER / 'model-index.yml'
_INSTALLED = FOLDER.parent / '.mim'  # where a wheel has configs and tools, as OpenMMLab's have
ROOT = _INSTALLED if _INSTALLED.is_dir() else FOLDER.parents[1]


class Model(NamedTuple):
    """A trained model.

    Attributes:
        name: what it is called.
        config: the file that it was trained by; None for a part of a model.
        weights: its file.
        sha256: the hash of that file.
        facts: its entry in the metafile.
    """

    name: str
    config: Path | None
    weights: Path
    sha256: str
    facts: dict


def config_file(path: str) -> str:
    """``paif_mm::FOLDER/NAME.py``, a config of the package, as its file; any other path as it is.

    Raises:
        FileNotFoundError: there is no such config.
    """
    if not path.startswith(CONFIGS):
        return path
    configs, name = ROOT / 'configs', path.removeprefix(CONFIGS)
    if not (configs / name).is_file():
        known = (file.relative_to(configs).with_suffix('').as_posix() for file in configs.rglob('[!_]*/*.py'))
        raise FileNotFoundError(f'there is no config {path}: {choices(name.removesuffix(".py"), known)}')
    return str(configs / name)


def models() -> dict[str, Model]:
    """All models by name, in the order of the index."""
    found = {}
    for metafile in mmengine.load(INDEX)['Import']:
        path = FOLDER / metafile
        for facts in mmengine.load(path)['Models']:
            config = facts.get('Config')
            found[facts['Name']] = Model(
                facts['Name'],
                ROOT / config if config else None,
                path.with_name(f'{facts["Name"]}.pth'),
                facts['Metadata']['SHA256'],
                facts,
            )
    return found


def find(address: str) -> Model:
    """The model called ``paif_mm://NAME``.

    Raises:
        KeyError: there is none.
    """
    name, known = address.removeprefix(SCHEME), models()
    if name not in known:
        raise KeyError(f'there is no model {address}: {choices(name, known)}; python -m paif_mm.zoo lists them')
    return known[name]


def checked(address: str) -> Model:
    """The model called ``paif_mm://NAME``, whose weights are what was published.

    Raises:
        KeyError: there is no such model.
        FileNotFoundError: its weights are not installed.
        ValueError: its file is another one than was published.
    """
    model = find(address)
    if not model.weights.is_file():
        raise FileNotFoundError(f'{model.weights} is missing: install paif_mm again')
    if file_hash(model.weights) != model.sha256:
        raise ValueError(f'{model.weights} is not what was published: install paif_mm again')
    return model


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_zoo(filename: str, map_location=None) -> dict:
    """The checkpoint of a model called ``paif_mm://NAME``, in single precision; errors as :func:`checked`."""
    checkpoint = load_checkpoint_file(checked(filename).weights, map_location)
    checkpoint['state_dict'] = {name: _single(value) for name, value in checkpoint['state_dict'].items()}
    return checkpoint


def _single(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value
