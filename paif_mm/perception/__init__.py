"""Adapters that put a fusion network in front of any OpenMMLab model."""

from .preprocessor import FusedGroup, FusionDataPreprocessor

__all__ = ['FusedGroup', 'FusionDataPreprocessor']
