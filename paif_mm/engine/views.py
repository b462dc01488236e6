"""Batches of a test, with test-time augmentation or without."""

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn

from paif_mm.perception import PairFuser, find_fuser


def tested_model(runner) -> nn.Module:
    """A runner's model without wrapper, which is a ``BaseTTAModel`` under test-time augmentation."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def plain_view(model: nn.Module, data_batch: dict) -> tuple[dict, PairFuser | None]:
    """A test batch as it is without augmentation, and the model's fuser, whose ``groups`` are of it.

    Of the views of test-time augmentation, this is the one that is not flipped and whose size is nearest that of the
    file; as the fuser has seen others since, the pairs of this one are fused once more.
    """
    fuser = find_fuser(model)
    if not isinstance(model, BaseTTAModel):
        return data_batch, fuser
    views = data_batch['data_samples']
    best = min(range(len(views)), key=lambda view: _augmentation(views[view][0].metainfo))
    batch = {key: value[best] for key, value in data_batch.items()}
    if fuser is not None:
        device = next(model.parameters()).device
        with torch.no_grad():
            fuser.fuse([pair.to(device) for pair in batch['inputs']])
    return batch, fuser


def _augmentation(meta: dict) -> tuple[bool, int]:
    """How far a view is from the file: whether it is flipped, and by how many pixels its size differs."""
    (height, width), (file_height, file_width) = meta['img_shape'][:2], meta['ori_shape'][:2]
    return bool(meta.get('flip')), abs(height - file_height) + abs(width - file_width)
