"""How far a test is: its name, its images, and the time that is left."""

import sys
import time
from datetime import timedelta

from mmengine.dist import is_main_process
from mmengine.hooks import Hook


class TestProgressHook(Hook):
    """Says before a test what is about to run, and from then on how far it is; on stderr, of the first process.

    A terminal has one line that is written anew; elsewhere there is a line every ten seconds, and none where the test
    is done before.

    Attributes:
        run (str): what the test is called, as an attack's name.
    """

    __test__ = False  # no test of pytest
    priority = 'VERY_LOW'
    run = 'test'

    def before_test_epoch(self, runner) -> None:
        self._terminal = sys.stderr.isatty()
        self._total = len(runner.test_dataloader.dataset)
        self._began = self._said = time.monotonic()
        if is_main_process():
            self._write(f'{self.run}: {self._total} images', '' if self._terminal else '\n')

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        now, batches = time.monotonic(), len(runner.test_dataloader)
        done = batch_idx + 1
        if not is_main_process() or now - self._said < (0.2 if self._terminal else 10) and done < batches:
            return
        left = timedelta(seconds=round((now - self._began) * (batches - done) / done))
        images = round(self._total * done / batches)
        if self._terminal:
            self._write(f'\r{self.run}: {images} of {self._total} images, {left} left ', '\n' * (done == batches))
        elif done < batches:
            self._write(f'{self.run}: {images} of {self._total} images, {left} left', '\n')
        self._said = now

    def _write(self, text: str, end: str) -> None:
        print(text, end=end, file=sys.stderr, flush=True)
