"""Metrics and tables."""

from .metrics import PairIoUMetric

__all__ = ['PairIoUMetric']
