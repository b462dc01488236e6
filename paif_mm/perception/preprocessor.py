"""The fusion network as (the first half of) a model's data preprocessor."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor

from paif_mm.data.colour import bgr_to_luma, replace_luma, split_pair
from paif_mm.registry import MODELS, build


@dataclass
class FusedGroup:
    """The pairs of one batch that share a size, and what became of them.

    Attributes:
        index (list[int]): places in the batch, n of them.
        pair (Tensor): what was fused, (n, 4, H, W) B,G,R,IR in [0, 1]; attacked if the batch was.
        clean (Tensor): the pairs before any attack, like ``pair`` (the same object where there was none).
        luma (Tensor): fused luminance (n, 1, H, W), differentiable.
        fused (Tensor): fused image (n, 3, H, W), B,G,R in [0, 1].
    """

    index: list[int]
    pair: Tensor
    clean: Tensor
    luma: Tensor
    fused: Tensor


@MODELS.register_module()
class FusionDataPreprocessor(BaseDataPreprocessor):
    """u = N(x, y) in front of T: fuses pairs and hands the result to the model's own preprocessor.

    The fusion network's parameters become parameters of the model (``data_preprocessor.fusion.*``): its optimizer
    trains them, its checkpoint holds them, and a plain checkpoint of the model misses nothing else.

    Every image is fused at its own size, before any padding, so that a pair's result depends on nothing else in the
    batch (pairs of one size share a forward pass).

    Args:
        fusion (dict): the fusion network, e.g. ``dict(type='FusionNet')``: ``(ir, vis_luma) -> luma``,
            each (n, 1, H, W) in [0, 1].
        task (dict): the preprocessor config that the model had before, e.g. ``dict(type='SegDataPreProcessor', ...)``.
            It receives the fused image as (3, H, W) B,G,R in [0, 255].
        stretch (bool): stretch each fused image linearly to [0, 1]. Checkpoints of the authors' release need it
            (theirs stretches the whole batch, the same at batch size 1). Default: False.
        task_defaults: settings that a model class adds to its preprocessor's config (mmpretrain's ``batch_augments``),
            handed on to ``task``.
    """

    def __init__(self, fusion: dict, task: dict, stretch: bool = False, **task_defaults):
        super().__init__()
        self.fusion = build(MODELS, fusion)
        self.task = MMENGINE_MODELS.build({**task_defaults, **task})
        self.stretch = stretch
        self.groups: list[FusedGroup] = []  # of the last batch, for the fusion loss and for pictures
        self.image_weights: list[float] | None = None  # of the last batch, for its losses; None: all alike

    def init_weights(self) -> None:
        """Initialise the fusion network; the model's own ``init_weights`` calls it, as it does its other children's."""
        if hasattr(self.fusion, 'init_weights'):
            self.fusion.init_weights()

    def forward(self, data: dict, training: bool = False) -> dict:
        """Fuse ``data['inputs']`` (a list of (4, H, W), or (N, 4, H, W); B,G,R,IR in [0, 255]), then do T's own steps.

        ``data['clean_inputs']``, if an attack left it there, is what the fusion loss compares with, and
        ``data['image_weights']`` what each image counts in the losses.

        Raises:
            ValueError: the inputs are not pairs.
        """
        self.image_weights = data.get('image_weights')
        data = self.cast_data({key: value for key, value in data.items() if key != 'image_weights'})
        inputs, clean = data['inputs'], data.pop('clean_inputs', None)
        fused = self.fuse(inputs, clean)
        data['inputs'] = torch.stack(fused) if isinstance(inputs, Tensor) else fused
        return self.task(data, training)

    def fuse(self, inputs, clean=None) -> list[Tensor]:
        """Fuse pairs (4, H, W) in [0, 255] to images (3, H, W), B,G,R in [0, 255]; fills ``groups``."""
        self.groups = []  # frees the last batch's graph before this one is built
        by_size = defaultdict(list)
        for index, image in enumerate(inputs):
            if image.dim() != 3 or image.size(0) != 4:
                raise ValueError(
                    f'FusionDataPreprocessor fuses pairs (4, H, W), but an input has the shape {tuple(image.shape)}: '
                    "load images with dict(type='paif_mm.LoadPairFromFile') instead of LoadImageFromFile"
                )
            by_size[image.shape].append(index)

        outputs = [None] * len(inputs)
        for index in by_size.values():
            group = self._fuse_group(index, inputs, clean)
            self.groups.append(group)
            for place, image in zip(index, group.fused * 255, strict=True):
                outputs[place] = image
        return outputs

    def _fuse_group(self, index: list[int], inputs, clean) -> FusedGroup:
        pair = torch.stack([inputs[i] for i in index]).float() / 255
        before = pair if clean is None else torch.stack([clean[i] for i in index]).float() / 255
        ir, visible = split_pair(pair)
        luma = self.fusion(ir, bgr_to_luma(visible))
        fused = replace_luma(visible, luma.float())
        if self.stretch:
            low, high = fused.amin((1, 2, 3), keepdim=True), fused.amax((1, 2, 3), keepdim=True)
            fused = (fused - low) / (high - low).clamp_min(1e-6)
        return FusedGroup(index, pair, before, luma, fused)
