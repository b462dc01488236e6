"""Fixtures of the data tests."""

import logging

import pytest
from mmengine.logging import MMLogger


class _Said(logging.Handler):
    def __init__(self):
        super().__init__(logging.INFO)
        self.records = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelname, record.getMessage()))

    def __call__(self, level: str) -> list[str]:
        return [message for name, message in self.records if name == level]


@pytest.fixture
def said():
    """What was logged: ``said('WARNING')`` lists the messages of a level."""
    logger, handler = MMLogger.get_current_instance(), _Said()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
