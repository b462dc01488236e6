"""Pairs on their way to a model: loading, datasets, colour, synthetic street scenes."""

from importlib.util import find_spec

from .datasets import MFNetDataset, MSRSDataset, PairSegDataset
from .loading import LoadPairAnnotations, LoadPairFromFile, PlanarLayout, TakePair, VisibleOnly

__all__ = [
    'LoadPairAnnotations',
    'LoadPairFromFile',
    'MFNetDataset',
    'MSRSDataset',
    'PairSegDataset',
    'PlanarLayout',
    'TakePair',
    'VisibleOnly',
]

if find_spec('mmdet'):  # an optional dependency
    from .detection import M3FDDataset, PairCocoDataset, PairVOCDataset

    __all__ += ['M3FDDataset', 'PairCocoDataset', 'PairVOCDataset']
