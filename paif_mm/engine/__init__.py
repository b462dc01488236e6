"""Training and testing around mmengine's Runner: exact resuming, readable console, pictures."""

from .checkpoint_hook import ResumableCheckpointHook
from .prediction_hook import PredictionFilesHook
from .progress_hook import TestProgressHook
from .strip_hook import PairVisualizationHook

__all__ = ['PairVisualizationHook', 'PredictionFilesHook', 'ResumableCheckpointHook', 'TestProgressHook']
