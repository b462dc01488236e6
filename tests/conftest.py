"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real pairs; the test is skipped where there is none."""
    root = Path(os.environ.get('PAIF_MM_DATA', REPO.parent / 'shared' / 'data'))
    if not root.is_dir():
        pytest.skip(f'no real pairs at {root}: set PAIF_MM_DATA')
    return root


@pytest.fixture(scope='session')
def synthetic_root(tmp_path_factory) -> Path:
    """A small synthetic data set in MFNet's layout: 8 + 4 pairs of 64x96."""
    from paif_mm.data.synthetic import make_synthetic

    root = tmp_path_factory.mktemp('synthetic')
    make_synthetic(root / 'scenes', train=8, val=4, size=(64, 96), seed=0, progress=False)
    return root / 'scenes'
