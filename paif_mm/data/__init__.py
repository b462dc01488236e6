"""Pairs on their way to a model: loading, datasets, colour, synthetic street scenes."""

from .datasets import MFNetDataset, MSRSDataset, PairSegDataset
from .loading import LoadPairAnnotations, LoadPairFromFile, VisibleOnly

__all__ = ['LoadPairAnnotations', 'LoadPairFromFile', 'MFNetDataset', 'MSRSDataset', 'PairSegDataset', 'VisibleOnly']
