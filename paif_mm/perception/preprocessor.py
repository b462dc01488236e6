"""The fusion network as (the first half of) a model's data preprocessor."""

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor

from paif_mm.registry import MODELS

from .fuser import MARKS, PairFuser


@MODELS.register_module()
class FusionDataPreprocessor(PairFuser, BaseDataPreprocessor):
    """u = N(x, y) in front of T: fuses pairs and hands the result to the model's own preprocessor.

    The fusion network's parameters become parameters of the model (``data_preprocessor.fusion.*``): its optimizer
    trains them, its checkpoint holds them, and a plain checkpoint of the model misses nothing else.

    In evaluation every pair is fused at its own size, before any padding, so that its result depends on nothing else in
    the batch (pairs of one size share a forward pass). In training the batch is fused as one tensor, of the size that
    ``task`` pads to if it has one: see :meth:`PairFuser.fuse`. What T gets is of the pair's own size all the same.

    Args:
        fusion (dict): the fusion network, e.g. ``dict(type='FusionNet')``: ``(ir, vis_luma) -> luma``,
            each (n, 1, H, W) in [0, 1].
        task (dict): the preprocessor config that the model had before, e.g. ``dict(type='SegDataPreProcessor', ...)``.
            It receives the fused image as (3, H, W) in [0, 255], in the order of channels that it would convert to.
        stretch (bool): stretch each fused image linearly to [0, 1]. Checkpoints of the authors' release need it
            (theirs stretches the whole batch, the same at batch size 1). Default: False.
        grey (bool): show T the fused luminance without the visible image's colours, as for a model of infrared images
            alone (``AverageFusion(ir_weight=1.0)``). Default: False.
        task_defaults: settings that a model class adds to its preprocessor's config (mmpretrain's ``batch_augments``),
            handed on to ``task``.
    """

    def __init__(self, fusion: dict, task: dict, stretch: bool = False, grey: bool = False, **task_defaults):
        super().__init__()
        self.hold(fusion, stretch, grey)
        self.task = MMENGINE_MODELS.build({**task_defaults, **task})
        self._converts = _take_conversion(self.task)

    def init_weights(self) -> None:
        """Initialise the fusion network; the model's own ``init_weights`` calls it, as it does its other children's."""
        if hasattr(self.fusion, 'init_weights'):
            self.fusion.init_weights()

    def canvas(self, training: bool) -> tuple[int, int] | None:
        """In training, the size that ``task`` pads to, or that of the largest pair where it has none."""
        return (getattr(self.task, 'size', None) or (0, 0)) if training else None

    def forward(self, data: dict, training: bool = False) -> dict:
        """Fuse ``data['inputs']`` (a list of (4, H, W), or (N, 4, H, W); B,G,R,IR in [0, 255]), then do T's own steps.

        ``data['clean_inputs']``, if an attack left it there, is what the fusion loss compares with, and
        ``data['image_weights']`` and ``data['twins']`` what the images are to the losses.

        Raises:
            NotPairsError: the inputs are not pairs.
            FusionError: see :meth:`PairFuser.luma`.
        """
        self.take_marks(data)
        data = self.cast_data({key: value for key, value in data.items() if key not in MARKS})
        inputs, clean = data['inputs'], data.pop('clean_inputs', None)
        fused = self.fuse(inputs, clean, self.canvas(training))
        if self._converts:
            fused = [image.flip(0) for image in fused]
        data['inputs'] = torch.stack(fused) if isinstance(inputs, Tensor) else fused
        data = self.task(data, training)
        images = data['inputs']
        if isinstance(images, Tensor) and images.device.type == 'cpu':  # where convolutions are faster so
            data['inputs'] = images.contiguous(memory_format=torch.channels_last)
        return data


def _take_conversion(task) -> bool:
    """Whether a preprocessor turns B,G,R to R,G,B; from now on it leaves that to its caller.

    The libraries' own way, indexing by a list, makes a GPU's queue run empty in every forward pass.
    """
    names = [name for name in ('channel_conversion', '_channel_conversion') if getattr(task, name, False)]
    for name in names:
        setattr(task, name, False)
    return bool(names)
