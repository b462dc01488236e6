"""What reaches the console."""

import logging

import pytest

from paif_mm.engine.runner import worth_showing


@pytest.mark.parametrize(
    ('level', 'message', 'shown'),
    [
        (logging.INFO, 'Iter(train) [10/20] loss: 1.0', True),
        (logging.INFO, '\n+-------+------+\n| Class | IoU |', True),
        (logging.INFO, '\n------------------------------------------------------------\nSystem environment:', False),
        (logging.INFO, 'Config:\nmodel = dict()', False),
        (logging.WARNING, 'Config: something is wrong', True),
        (logging.WARNING, '"FileClient" will be deprecated in future.', False),
    ],
)
def test_progress_results_and_warnings_are_shown_and_dumps_are_not(level, message, shown):
    record = logging.LogRecord('x', level, 'file', 1, message, None, None)
    assert worth_showing(record) is shown
