"""Trained models on pairs of images, folders, videos and cameras."""

from .fusing import FusionInferencer
from .inferencer import PairInferencer, Prediction

__all__ = ['FusionInferencer', 'PairInferencer', 'Prediction']
