"""Metrics and tables."""

from .metrics import PairIoUMetric
from .outcomes import ObjectOutcomeMetric, object_outcomes

__all__ = ['ObjectOutcomeMetric', 'PairIoUMetric', 'object_outcomes']
