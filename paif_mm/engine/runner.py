"""mmengine's Runner with a console that people can read."""

import logging
import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import BaseLoop, CheckpointLoader, IterBasedTrainLoop, Runner

from paif_mm.checks import check_run, datasets_of, shared_samples, transforms_that_break_pairs
from paif_mm.compat import match_gradient_strides
from paif_mm.perception import NotPairsError
from paif_mm.weights import load_weights, state_of

from .checkpoint_hook import ResumableCheckpointHook
from .places import PassedOver, Places, batches_from, place
from .preemption import listening, shield_workers
from .resuming import TRAINING, adopt_paths, check_same_training, checkpoint_folder, identity, latest_checkpoint

_DUMPS = ('-' * 20, 'Config:', 'Hooks will be executed', 'Distributed training is not used', 'load model from')
#: Warnings that say nothing about the user's run.
_NOISE = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias', 'The prefix is not set in metric class')


class QuietRunner(Runner):
    """A Runner whose console shows progress, results and warnings; the log file in the work dir holds everything.

    It refuses weights that do not fit and classes that differ, and resumes from its own work dir alone. With a
    :class:`ResumableCheckpointHook`, a training that is told to stop writes a checkpoint first.

    Attributes:
        allow_partial (bool): whether a test may go on with weights that fit in part.
    """

    allow_partial = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._identity = identity(self.cfg)

    def train(self):
        resumable = any(isinstance(hook, ResumableCheckpointHook) for hook in self.hooks)
        with listening() if resumable else nullcontext(), self._transforms_named():
            return super().train()

    def val(self):
        with self._transforms_named():
            return super().val()

    def test(self):
        with self._transforms_named():
            return super().test()

    def build_logger(self, log_level='INFO', log_file=None, **kwargs):
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(worth_showing)
        return logger

    @staticmethod
    def build_dataloader(dataloader, seed: int | None = None, diff_rank_seed: bool = False):
        """As mmengine's; samples' random numbers belong to their places (see :func:`~.places.place`).

        Without workers there are none to keep, so that ``num_workers=0`` is enough to say.
        """
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = {**dataloader, 'persistent_workers': False, 'prefetch_factor': None}
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if seed is not None:
            place(loader, seed)
        return shield_workers(loader)

    def wrap_model(self, model_wrapper_cfg, model):
        model = super().wrap_model(model_wrapper_cfg, model)
        if is_model_wrapper(model):
            match_gradient_strides(model)
        return model

    def scale_lr(self, optim_wrapper, auto_scale_lr: dict | None = None) -> None:
        """As mmengine's, and batches whose gradients are accumulated count as one: the linear scaling rule (Goyal et
        al. 2017) for every optimizer, also both of a search."""
        if not (auto_scale_lr or {}).get('enable', False):
            return
        loader, base = self._train_dataloader, auto_scale_lr['base_batch_size']
        batch = self.world_size * (loader['batch_size'] if isinstance(loader, dict) else loader.batch_size)
        several = isinstance(optim_wrapper, OptimWrapperDict)
        for name, wrapper in optim_wrapper.items() if several else [('', optim_wrapper)]:
            effective = batch * wrapper._accumulative_counts
            of = f' of the {name}' if name else ''
            self.logger.info(
                f'learning rate{of} scaled by {effective / base:g}: batches of {effective}, made for {base}'
            )
            for group in wrapper.optimizer.param_groups:
                group['lr'] *= effective / base

    @contextmanager
    def _transforms_named(self) -> Iterator[None]:
        """Say which transform of which pipeline leaves no pairs, where the model gets none."""
        try:
            yield
        except NotPairsError as error:
            lines = transforms_that_break_pairs(datasets_of(self))
            raise NotPairsError(lines[0] if lines else str(error)) from error

    def load_or_resume(self) -> None:
        """Resume from the work dir's own latest checkpoint; where there is none yet, start from ``load_from``.

        mmengine would resume from ``load_from`` itself, with the iteration and the optimizer of another training, or
        from the path in ``last_checkpoint``, which in a moved or copied work dir is another training's. All is built
        by now, so that what does not go together is refused here.

        Raises:
            ClassCountError: see :func:`~.checks.check_run`.
            WeightsError: a checkpoint does not fit; see :meth:`load_checkpoint`.
            NoCheckpointError: no whole checkpoint is left to resume from.
            OtherTrainingError: the work dir holds another config's training.
        """
        check_run(self)
        if is_main_process():
            for line in shared_samples(self):
                self.logger.warning(line)
        if self._resume and not self._has_loaded:
            latest = latest_checkpoint(self._checkpoint_folder(), self.work_dir)
            if latest:
                self.resume(latest)
            else:
                self.logger.info(f'{self.work_dir} holds no checkpoint yet: training starts from the beginning')
                if self._load_from is not None:
                    self._start_from(self._load_from)
            self._has_loaded = True
        super().load_or_resume()
        self._pass_over_seen_batches()

    def resume(self, filename: str, *args, **kwargs) -> None:
        super().resume(filename, *args, **kwargs)
        adopt_paths(self.message_hub, osp.dirname(filename))

    def load_checkpoint(self, filename: str, map_location='cpu', strict: bool | None = None) -> dict:
        """As mmengine's, but what does not fit is said in one line.

        Args:
            strict (bool, optional): whether everything must fit. Default: unless a training starts from ``load_from``
                or ``allow_partial`` is set; something must, even so.

        Raises:
            WeightsError: weights are missing, unexpected or of other shapes.
        """
        checkpoint = CheckpointLoader.load_checkpoint(filename, map_location, logger='silent')
        others = checkpoint if 'state_dict' in checkpoint else {}
        checkpoint = {**others, 'state_dict': state_of(checkpoint, filename)}
        if self._resume:
            check_same_training(self._identity, checkpoint.get('meta', {}).get(TRAINING), filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        if strict is None:
            starting = isinstance(self._train_loop, BaseLoop) and not self._resume
            strict = not (starting or self.allow_partial)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        model = model.module if isinstance(model, BaseTTAModel) else model
        misfit = load_weights(model, checkpoint, filename, partial=not strict)
        if misfit:
            self.logger.warning(f'{filename} fits in part: {misfit.fitting} weights taken over; {misfit}')
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """As mmengine's, with the training's identity, and a kill never leaves half a file (in a local folder)."""
        kwargs['meta'] = {**(kwargs.get('meta') or {}), TRAINING: self._identity}
        if not osp.isdir(out_dir) and '://' in out_dir:
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        partial = f'{filename}.partial'
        super().save_checkpoint(out_dir, partial, *args, **kwargs)
        if is_main_process() and osp.isfile(osp.join(out_dir, partial)):
            os.replace(osp.join(out_dir, partial), osp.join(out_dir, filename))

    def _pass_over_seen_batches(self) -> None:
        """Let a resumed loop by iterations, which asks for all batches that it has seen, get nothing for these."""
        loop = self._train_loop
        if not isinstance(loop, IterBasedTrainLoop) or not loop.iter:
            return
        if isinstance(getattr(loop.dataloader, 'batch_sampler', None), Places):
            loop.dataloader_iterator = PassedOver(batches_from(loop.dataloader, loop.iter), loop.iter)

    def _checkpoint_folder(self) -> str:
        """Where the CheckpointHook writes: the work dir, or one of that name in its ``out_dir``."""
        out_dirs = [hook.out_dir for hook in self.hooks if isinstance(hook, CheckpointHook)]
        return checkpoint_folder(self.work_dir, out_dirs[0] if out_dirs else None)

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
