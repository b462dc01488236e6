"""Adapters that put a fusion network in front of any OpenMMLab model."""

from .backbone import FusionBackbone, to_backbone_form
from .fuser import FusedGroup, FusionError, NotPairsError, PairFuser, find_fuser, normalised_channels, require_fuser
from .preprocessor import FusionDataPreprocessor

__all__ = [
    'FusedGroup',
    'FusionBackbone',
    'FusionDataPreprocessor',
    'FusionError',
    'NotPairsError',
    'PairFuser',
    'find_fuser',
    'normalised_channels',
    'require_fuser',
    'to_backbone_form',
]
