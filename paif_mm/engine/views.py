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

    Of the views of test-time augmentation, this is the first that is not flipped: the plain test's in
    ``configs/_base_/tta``. As the fuser has seen others since, the pairs of this one are fused once more.
    """
    fuser = find_fuser(model)
    if not isinstance(model, BaseTTAModel):
        return data_batch, fuser
    views = data_batch['data_samples']
    best = next((i for i, samples in enumerate(views) if not samples[0].metainfo.get('flip')), 0)
    batch = {key: value[best] for key, value in data_batch.items()}
    if fuser is not None:
        device = next(model.parameters()).device
        with torch.no_grad():
            fuser.fuse([pair.to(device) for pair in batch['inputs']])
    return batch, fuser
