"""A test says what runs and how long it will take."""

import io
from types import SimpleNamespace

import pytest

from paif_mm.engine import TestProgressHook


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def told(monkeypatch):
    """What a test of three batches of two images, four seconds each, says."""

    def run(terminal: bool, seconds: float = 4.0) -> str:
        now, screen = [100.0], Screen(terminal)
        monkeypatch.setattr('sys.stderr', screen)
        monkeypatch.setattr('time.monotonic', lambda: now[0])
        loader = type('Loader', (), {'dataset': range(6), '__len__': lambda self: 3})()
        runner, hook = SimpleNamespace(test_dataloader=loader), TestProgressHook()
        hook.run = 'apgd100_eps4'
        hook.before_test_epoch(runner)
        for batch in range(3):
            now[0] += seconds
            hook.after_test_iter(runner, batch)
        return screen.getvalue()

    return run


def test_a_terminal_has_one_line_with_the_time_that_is_left(told):
    lines = told(terminal=True).split('\r')
    assert lines[0] == 'apgd100_eps4: 6 images'
    assert [line.strip() for line in lines[1:]] == [
        'apgd100_eps4: 2 of 6 images, 0:00:08 left',
        'apgd100_eps4: 4 of 6 images, 0:00:04 left',
        'apgd100_eps4: 6 of 6 images, 0:00:00 left',
    ]
    assert lines[-1].endswith('\n')


def test_a_file_has_a_line_every_ten_seconds(told):
    assert told(terminal=False) == 'apgd100_eps4: 6 images\n'
    assert told(terminal=False, seconds=11).splitlines()[1:] == [
        'apgd100_eps4: 2 of 6 images, 0:00:22 left',
        'apgd100_eps4: 4 of 6 images, 0:00:11 left',
    ]
