"""Training and testing around mmengine's Runner: exact resuming, readable console, pictures, bfloat16."""

from .checkpoint_hook import ResumableCheckpointHook
from .mixed_precision import BFloat16OptimWrapper
from .prediction_hook import PredictionFilesHook
from .progress_hook import TestProgressHook
from .strip_hook import PairVisualizationHook

__all__ = [
    'BFloat16OptimWrapper',
    'PairVisualizationHook',
    'PredictionFilesHook',
    'ResumableCheckpointHook',
    'TestProgressHook',
]
