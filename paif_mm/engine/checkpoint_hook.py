"""Checkpoints from which a killed run goes on as if nothing had happened."""

from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import CheckpointHook, EMAHook

from paif_mm.randomness import random_state, set_random_state
from paif_mm.registry import HOOKS

from .resuming import adopt_paths, checkpoint_folder
from .statistics import average_statistics

KEY = 'random_states'


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook plus the random states of every process.

    mmengine resumes weights, optimizer and schedule, and draws the data already seen once more to skip it. This hook
    adds the states of Python's, NumPy's and torch's (CPU and CUDA) generators, so that augmentation, dropout and
    random starts of attacks go on too. In a moved or copied work dir, what is deleted or replaced (``save_best``,
    ``max_keep_ckpts``) is in that folder alone. Validation does not disturb them: a run's training does not depend
    on how often it is validated. With several processes, batch-norm statistics are averaged over them before a
    validation and before a checkpoint (see :func:`~.statistics.average_statistics`).

    Keep at least two checkpoints (``max_keep_ckpts=2``): mmengine deletes the oldest before it writes a new one.
    """

    _resumed: dict | None = None

    def _save_checkpoint_with_step(self, runner, step, meta):
        average_all(runner)
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
            loop.dataloader_iterator = _RestoreAfter(loop.dataloader_iterator, loop.iter, state)
        else:
            set_random_state(state)

    def before_val(self, runner) -> None:
        average_all(runner)
        self._before_val = random_state()

    def after_val(self, runner) -> None:
        set_random_state(self._before_val)


def average_all(runner) -> None:
    """One set of batch-norm statistics for all processes: of the model, and of the moving averages of its weights."""
    average_statistics(runner.model)
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            average_statistics(hook.ema_model)


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
