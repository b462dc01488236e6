import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def release_file() -> Path:
    """The file that pins the released fusion network: weights, a pair, and the fused result."""
    data = Path(os.environ.get('PAIF_MM_DATA', REPOSITORY.parent / 'shared' / 'data'))
    path = data.parent / 'reference' / 'release_fusion_seed0.npz'
    if not path.is_file():
        pytest.skip(f'{path} is not here')
    return path
