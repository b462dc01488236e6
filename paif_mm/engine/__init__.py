"""Training and testing around mmengine's Runner: exact resuming, readable console, pictures."""

from .checkpoint_hook import ResumableCheckpointHook
from .strip_hook import PairVisualizationHook

__all__ = ['PairVisualizationHook', 'ResumableCheckpointHook']
