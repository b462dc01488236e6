import os
from pathlib import Path

import pytest
from conftest import REPO


@pytest.fixture(scope='session')
def reference() -> Path:
    """The folder of outputs of published networks; the test is skipped where there is none."""
    data = Path(os.environ.get('PAIF_MM_DATA', REPO.parent / 'shared' / 'data'))
    folder = data.parent / 'reference'
    if not (folder / 'lasnet_modules_parity.npz').is_file():
        pytest.skip(f'no outputs of published networks at {folder}')
    return folder
