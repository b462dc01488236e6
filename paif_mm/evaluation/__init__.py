"""Metrics and tables."""

from .metrics import PairIoUMetric
from .outcomes import ObjectOutcomeMetric, object_outcomes
from .quality_hook import FusedImageQualityHook

__all__ = ['FusedImageQualityHook', 'ObjectOutcomeMetric', 'PairIoUMetric', 'object_outcomes']
