"""mmengine's Runner with a console that people can read."""

import logging

from mmengine.runner import Runner, find_latest_checkpoint

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

    def load_or_resume(self) -> None:
        """Resume from the work dir's latest checkpoint; where there is none yet, start from ``load_from``.

        mmengine would resume from ``load_from`` itself, with the iteration and the optimizer of another training.
        """
        if self._resume and self._load_from is not None and not self._has_loaded:
            latest = find_latest_checkpoint(self.work_dir)
            if latest:
                self.resume(latest)
            else:
                self._start_from(self._load_from)
            self._has_loaded = True
        super().load_or_resume()

    def _start_from(self, checkpoint: str) -> None:
        """Weights alone: hooks that ask whether this is resumed leave the checkpoint's random states alone."""
        self._resume = False
        try:
            self.load_checkpoint(checkpoint)
        finally:
            self._resume = True


def worth_showing(record: logging.LogRecord) -> bool:
    """Whether a log record belongs on the console: not the dumps that mmengine logs at start-up."""
    message = record.getMessage().strip()
    if record.levelno >= logging.WARNING:
        return not message.startswith(_NOISE)
    return not message.startswith(_DUMPS)
