"""Adds the fusion loss to the losses of any model, without changing the model's class."""

from dataclasses import replace
from functools import partial

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from paif_mm.checks import check_run
from paif_mm.data.colour import bgr_to_luma, split_pair
from paif_mm.perception import FusedGroup, PairFuser, find_fuser, require_fuser
from paif_mm.registry import HOOKS, MODELS, build

from .weighting import rows, weighted_mean


@HOOKS.register_module()
class FusionLossHook(Hook):
    """L_tr = ``weight`` * L_F + ``task_weight`` * L_T (Sec. 3.1), for any fused model.

    L_F always compares with the clean pair, also where the network saw an attacked one, so that the fusion network
    learns to remove perturbations. It appears in the log as ``loss_fusion``, weighted.

    Args:
        loss (dict): the fusion loss, PAIF's or that of another network (see :mod:`~.published`). Default:
            ``dict(type='FusionLoss')``.
        weight (float): weight of the fusion loss. Default: 0.1 (the authors' release; the paper averages both).
        task_weight (float): factor on every loss of the model itself. Default: 4 (as above).
    """

    def __init__(self, loss: dict | None = None, weight: float = 0.1, task_weight: float = 4.0):
        self.loss = build(MODELS, loss or {'type': 'FusionLoss'})
        self.weight = weight
        self.task_weight = task_weight

    def before_run(self, runner) -> None:
        check_run(runner)  # of a project whose Runner does not

    def before_train(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._fuser = require_fuser(model, 'FusionLossHook')
        self._handle = model.register_forward_hook(self._add_loss, with_kwargs=True)

    def after_train(self, runner) -> None:
        self._handle.remove()

    def before_test(self, runner) -> None:
        """Refuse to measure what was not trained.

        mmengine puts a config's top-level ``data_preprocessor`` over that of a model in a ``BaseTTAModel``: it would
        show T the visible images alone.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if find_fuser(model) is None:
            raise TypeError(
                'the model under test fuses nothing, though it is trained with a fusion loss: set '
                "data_preprocessor = None in the config, or --tta puts that one over the model's own"
            )

    def _add_loss(self, model, args, kwargs, losses):
        """A torch forward hook: extends the model's dict of training losses. Predictions and attacks pass unchanged."""
        if not model.training or kwargs.get('mode') != 'loss':
            return losses
        losses = {name: self._scale(value) if 'loss' in name else value for name, value in losses.items()}
        losses['loss_fusion'] = self.weight * batch_fusion_loss(self.loss, self._fuser)
        return losses

    def _scale(self, value):
        return [self.task_weight * v for v in value] if isinstance(value, (list, tuple)) else self.task_weight * value


def batch_fusion_loss(loss, fuser: PairFuser):
    """Mean of the fusion loss over all images of a batch, whatever their sizes, with the batch's image weights."""
    if getattr(loss, 'needs_network', False):
        loss = partial(loss, network=fuser.fusion)
    groups, weights = fuser.groups, fuser.image_weights
    if weights is not None:
        groups = [part for group in groups if (part := _that_counts(group, weights)).index] or groups
        losses = [loss(*fusion_loss_inputs(group), reduction='none') for group in groups]
        return weighted_mean(losses, [group.index for group in groups], weights)
    images = sum(len(group.index) for group in groups)
    return sum(loss(*fusion_loss_inputs(group)) * len(group.index) for group in groups) / images


def _that_counts(group: FusedGroup, weights: list[float]) -> FusedGroup:
    """The images of a group that have a weight: attacked copies (TRADES) have none, and need no loss."""
    places = [i for i, place in enumerate(group.index) if weights[place]]
    if len(places) == len(group.index):
        return group
    index = [group.index[i] for i in places]
    return replace(group, index=index, luma=rows(group.luma, places), clean=rows(group.clean, places))


def fusion_loss_inputs(group):
    """(fused luminance, clean infrared, clean visible luminance) of a :class:`FusedGroup`, (n, 1, H, W) each."""
    ir, visible = split_pair(group.clean)
    return group.luma.float(), ir, bgr_to_luma(visible)
