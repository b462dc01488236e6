"""mmengine's Runner with a console that people can read."""

import logging

from mmengine.runner import Runner

_DUMPS = ('-' * 20, 'Config:', 'Hooks will be executed', 'Distributed training is not used', 'load model from')
#: Warnings that say nothing about the user's run.
_NOISE = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias', 'The prefix is not set in metric class')


class QuietRunner(Runner):
    """A Runner whose console shows progress, results and warnings; the log file in the work dir holds everything."""

    def build_logger(self, log_level='INFO', log_file=None, **kwargs):
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(worth_showing)
        return logger


def worth_showing(record: logging.LogRecord) -> bool:
    """Whether a log record belongs on the console: not the dumps that mmengine logs at start-up."""
    message = record.getMessage().strip()
    if record.levelno >= logging.WARNING:
        return not message.startswith(_NOISE)
    return not message.startswith(_DUMPS)
