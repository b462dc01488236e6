"""Fixtures of all tests."""

import os
import signal
from pathlib import Path

import pytest

import paif_mm  # noqa: F401 (before any OpenMMLab model library)

REPO = Path(__file__).resolve().parent.parent


def environment(*folders, checkout: bool = True) -> dict[str, str]:
    """Variables of a process that tests start, which imports from this checkout, then folders, then as this one."""
    path = [*map(str, [REPO] * checkout + [*folders]), *filter(None, [os.environ.get('PYTHONPATH')])]
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(path)}


@pytest.fixture(autouse=True)
def signal_handlers():
    """As they were, after each test: tools run in this process set some, which pools of later tests would inherit."""
    numbers = [
        signal.SIGINT,
        *(getattr(signal, name) for name in ('SIGTERM', 'SIGHUP', 'SIGUSR1') if hasattr(signal, name)),
    ]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


@pytest.fixture(scope='session', autouse=True)
def quick_runners():
    """Runners that start in a fraction of the time, and differ in nothing else.

    mmengine formats the whole config several times a run, a second each, and collects garbage for every data set.
    """
    import gc

    import mmengine.config.config as mmengine_config
    from mmengine.runner import runner as mmengine_runner
    from yapf.yapflib import yapf_api

    patch = pytest.MonkeyPatch()
    formats = mmengine_config if hasattr(mmengine_config, 'FormatCode') else yapf_api  # else: onedl-mmengine
    patch.setattr(formats, 'FormatCode', lambda text, **_: (text, True))
    patch.setattr(mmengine_runner, 'collect_env', dict)
    gc.freeze()  # what stands now is not looked through again
    yield
    patch.undo()
