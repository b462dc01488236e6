"""Adversarial attacks on any OpenMMLab model, within budgets on raw pixels."""

from .attack import APGD, PGD, AttackResult
from .audit import Audit
from .auto_pgd import auto_pgd
from .corruptions import Corruption
from .frozen import frozen
from .functional import Budget, Losses, projected_gradient
from .hook import AdversarialAttackHook
from .objectives import FusionObjective, PixelLoss, TaskLoss, WeightedSum

__all__ = [
    'APGD',
    'PGD',
    'AdversarialAttackHook',
    'AttackResult',
    'Audit',
    'Budget',
    'Corruption',
    'FusionObjective',
    'Losses',
    'PixelLoss',
    'TaskLoss',
    'WeightedSum',
    'auto_pgd',
    'frozen',
    'projected_gradient',
]
