"""Adversarial attacks on any OpenMMLab model, within budgets on raw pixels."""

from .attack import PGD, AttackResult
from .audit import Audit
from .frozen import frozen
from .functional import Budget, projected_gradient
from .hook import AdversarialAttackHook
from .objectives import FusionObjective, TaskLoss, WeightedSum

__all__ = [
    'PGD',
    'AdversarialAttackHook',
    'AttackResult',
    'Audit',
    'Budget',
    'FusionObjective',
    'TaskLoss',
    'WeightedSum',
    'frozen',
    'projected_gradient',
]
