"""Architecture search for the fusion network."""

from .bilevel import METHODS, best_response, first_order, one_step
from .efficiency import ExpectedCost
from .hook import ArchitectureHook
from .loop import HDSTrainLoop
from .optim import HDSOptimWrapperConstructor

__all__ = [
    'METHODS',
    'ArchitectureHook',
    'ExpectedCost',
    'HDSOptimWrapperConstructor',
    'HDSTrainLoop',
    'best_response',
    'first_order',
    'one_step',
]
