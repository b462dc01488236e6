"""Checkpoints from which a killed run goes on as if nothing had happened."""

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import Tensor, nn

from paif_mm.randomness import random_state, set_random_state
from paif_mm.registry import HOOKS

from .preemption import asked_to_stop, leave
from .resuming import adopt_paths, checkpoint_folder
from .statistics import averaged_statistics

STATES, STATISTICS = 'random_states', 'statistics'


@HOOKS.register_module()
class ResumableCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook plus what every process has of its own: random states and batch-norm statistics.

    mmengine resumes weights, optimizer and schedule, and draws the data already seen once more to skip it. This hook
    adds the states of Python's, NumPy's and torch's (CPU and CUDA) generators, so that augmentation, dropout and
    random starts of attacks go on too, and the buffers in which processes differ from the main one: attacks, which run
    in evaluation mode, see them. In a moved or copied work dir, what is deleted or replaced (``save_best``,
    ``max_keep_ckpts``) is in that folder alone.

    With several processes, batch-norm statistics are averaged over them for a validation, and in what is saved (see
    :func:`~.statistics.averaged_statistics`).

    Validation does not disturb a training, which does not depend on how often it is validated. A checkpoint is of the
    time before the validation that is due with it, so that a resumed run begins with that.

    A run that hears SIGUSR1 or SIGTERM (:mod:`~.preemption`) writes a checkpoint after its iteration, or its epoch if
    it is epoch-based, and ends; with gradient accumulation, after the iteration that moves the weights.

    Keep at least two checkpoints (``max_keep_ckpts=2``): mmengine deletes the oldest before it writes a new one.
    """

    _resumed: dict | None = None
    _statistics: dict | None = None

    def _save_checkpoint_with_step(self, runner, step, meta):
        meta[STATES] = all_gather_object(random_state())  # here, as only the main process goes on to write
        own = all_gather_object(_statistics(runner.model))
        with averaged_statistics(*_evaluated(runner)):
            meta[STATISTICS] = _differing(own, _statistics(runner.model))
            super()._save_checkpoint_with_step(runner, step, meta)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        meta = checkpoint.get('meta', {})
        states, statistics = meta.get(STATES), meta.get(STATISTICS)
        if runner._resume and states is not None and get_rank() < len(states):
            self._resumed = states[get_rank()]
        if runner._resume and statistics is not None and len(statistics) == get_world_size():
            self._statistics = statistics[get_rank()]

    def before_train(self, runner) -> None:
        if runner._resume:
            adopt_paths(runner.message_hub, checkpoint_folder(runner.work_dir, self.out_dir))
        if self._statistics:
            _unwrapped(runner.model).load_state_dict(self._statistics, strict=False)
        self._statistics = None
        super().before_train(runner)
        if runner._resume and _validation_is_due(runner):
            runner.val_loop.run()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if not isinstance(runner.train_loop, EpochBasedTrainLoop) and _weights_have_moved(runner.optim_wrapper):
            done = runner.iter + 1
            self._stop_if_asked(runner, done, {'epoch': runner.epoch, 'iter': done})

    def after_train_epoch(self, runner) -> None:
        super().after_train_epoch(runner)
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            done = runner.epoch + 1
            self._stop_if_asked(runner, done if self.by_epoch else runner.iter, {'epoch': done, 'iter': runner.iter})

    def _stop_if_asked(self, runner, step: int, meta: dict) -> None:
        code = asked_to_stop()
        if code:
            self._save_checkpoint_with_step(runner, step, meta)
            runner.logger.info(f'told to stop: checkpoint written at {step}, --resume goes on from it')
            leave(code)

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
        self._averaged = averaged_statistics(*_evaluated(runner))
        self._averaged.__enter__()

    def after_val(self, runner) -> None:
        self._averaged.__exit__(None, None, None)
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
        if hasattr(self.iterator, '_ensure_iterator'):
            self.iterator._ensure_iterator()
        self.skip -= count


def _evaluated(runner) -> list[nn.Module]:
    """The model, and the moving averages of its weights that hooks evaluate and save instead."""
    return [runner.model, *(hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))]


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers that a model saves; none where there is one process, whose checkpoint holds them."""
    if get_world_size() == 1:
        return {}
    model = _unwrapped(model)
    saved = model.state_dict()
    return {name: buffer.detach().cpu().clone() for name, buffer in model.named_buffers() if name in saved}


def _differing(statistics: list[dict[str, Tensor]], saved: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Of each process, those that the checkpoint does not hold."""
    return [{name: x for name, x in own.items() if not torch.equal(x, saved[name])} for own in statistics]


def _weights_have_moved(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Whether no gradient is being accumulated, which no checkpoint would hold."""
    wrappers = optim_wrapper.values() if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    return all(wrapper.should_update() for wrapper in wrappers if isinstance(wrapper, OptimWrapper))


def _validation_is_due(runner) -> bool:
    """Whether the train loop would have validated after what is done."""
    loop = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, IterBasedTrainLoop | EpochBasedTrainLoop):
        return False
    loop._decide_current_val_interval()
    done, end = (loop.iter, loop.max_iters)
    if isinstance(loop, EpochBasedTrainLoop):
        done, end = loop.epoch, loop.max_epochs
    return done >= max(loop.val_begin, 1) and (done % loop.val_interval == 0 or done == end)
