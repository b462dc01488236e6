"""Checkpoints from which a killed run goes on as if nothing had happened."""

from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import CheckpointHook

from paif_mm.randomness import random_state, set_random_state
from paif_mm.registry import HOOKS

from .resuming import adopt_paths, checkpoint_folder

KEY = 'random_states'


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook plus the random states of every process.

    mmengine resumes weights, optimizer and schedule, and draws the data already seen once more to skip it. This hook
    adds the states of Python's, NumPy's and torch's (CPU and CUDA) generators, so that augmentation, dropout and
    random starts of attacks go on too. In a moved or copied work dir, what is deleted or replaced (``save_best``,
    ``max_keep_ckpts``) is in that folder alone. Validation does not disturb them: a run's training does not depend
    on how often it is validated.

    Keep at least two checkpoints (``max_keep_ckpts=2``): mmengine deletes the oldest before it writes a new one.
    """

    _resumed: dict | None = None

    def _save_checkpoint_with_step(self, runner, step, meta):
        meta[KEY] = all_gather_object(random_state())  # here, as only the main process goes on to write
        super()._save_checkpoint_with_step(runner, step, meta)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        states = checkpoint.get('meta', {}).get(KEY)
        if runner._resume and states is not None and get_rank() < len(states):
            self._resumed = states[get_rank()]

    def before_train(self, runner) -> None:
        if runner._resume:
            adopt_paths(runner.message_hub, checkpoint_folder(runner.work_dir, self.out_dir))
        super().before_train(runner)

    def before_train_epoch(self, runner) -> None:
        if self._resumed is None:
            return
        loop, state = runner.train_loop, self._resumed
        self._resumed = None
        if hasattr(loop, 'dataloader_iterator'):  # iteration-based: skipping the seen data draws random numbers first
            skipped = 0 if getattr(loop, 'fast_forward_on_resume', False) else loop.iter  # an option of onedl-mmengine
            loop.dataloader_iterator = _RestoreAfter(loop.dataloader_iterator, skipped, state)
        else:
            set_random_state(state)

    def before_val(self, runner) -> None:
        self._before_val = random_state()

    def after_val(self, runner) -> None:
        set_random_state(self._before_val)


class _RestoreAfter:
    """Yields what ``iterator`` yields, and restores a random state after ``skip`` items."""

    def __init__(self, iterator, skip: int, state: dict):
        self.iterator, self.skip, self.state = iterator, skip, state

    def __iter__(self):
        return self

    def __next__(self):
        if self.skip == 0:
            set_random_state(self.state)
        self.skip -= 1
        return next(self.iterator)

    def skip_iter(self, count: int) -> None:
        """How onedl-mmengine skips; it would build the loader's iterator, which draws a random number, afterwards."""
        self.iterator.skip_iter(count)
        self.iterator._ensure_iterator()
        self.skip -= count
