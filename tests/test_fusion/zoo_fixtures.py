"""What the authors' networks were seen to give: weights, a pair and results of each."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = {name: f'{name.lower()}_parity.npz' for name in ('U2Fusion', 'DIDFuse', 'SDNet', 'SeAFusion', 'ReCoNet')}
FILES |= {name: f'{name.lower()}_parity.npz' for name in ('UMFusion', 'TarDAL')}


class Fixture:
    """The file of one network; skips the test where it is not."""

    def __init__(self, name: str):
        data = Path(os.environ.get('PAIF_MM_DATA', REPOSITORY.parent / 'shared' / 'data'))
        path = data.parent / 'reference' / FILES[name]
        if not path.is_file():
            pytest.skip(f'{path} is not here')
        with np.load(path) as content:
            self.arrays = {key: torch.from_numpy(content[key]) for key in content if key != 'about'}
            self.about = json.loads(str(content['about']))

    def __getitem__(self, name: str) -> Tensor:
        return self.arrays[name]

    def weights(self, part: str = '') -> dict[str, Tensor]:
        """By the authors' names, of those that start with ``part``, which is left out."""
        start = f'weight/{part}'
        return {key.removeprefix(start): value for key, value in self.arrays.items() if key.startswith(start)}
