"""The fusion loss, those of published networks, and the hook that adds one to any model's losses."""

from .fusion import FusionLoss, fusion_loss
from .hook import FusionLossHook
from .published import DIDFuseLoss, SDNetLoss, SeAFusionLoss, TarDALLoss, U2FusionLoss
from .saliency import saliency, saliency_weights

__all__ = [
    'DIDFuseLoss',
    'FusionLoss',
    'FusionLossHook',
    'SDNetLoss',
    'SeAFusionLoss',
    'TarDALLoss',
    'U2FusionLoss',
    'fusion_loss',
    'saliency',
    'saliency_weights',
]
