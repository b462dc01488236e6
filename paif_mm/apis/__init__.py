"""Trained models on pairs of images, folders, videos and cameras."""

from .inferencer import PairInferencer, Prediction

__all__ = ['PairInferencer', 'Prediction']
