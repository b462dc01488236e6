"""The fusion loss, and the hook that adds it to any model's losses."""

from .fusion import FusionLoss, fusion_loss
from .hook import FusionLossHook
from .saliency import saliency, saliency_weights

__all__ = ['FusionLoss', 'FusionLossHook', 'fusion_loss', 'saliency', 'saliency_weights']
