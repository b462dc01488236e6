"""Adversarial attacks on any OpenMMLab model, within budgets on raw pixels."""

from .attack import APGD, PGD, Attack, AttackResult, Square
from .audit import Audit
from .auto_pgd import auto_pgd
from .bank import AttackBank
from .corruptions import Corruption
from .frozen import frozen
from .functional import Budget, Losses, projected_gradient
from .hook import AdversarialAttackHook
from .objectives import FusionObjective, PixelLoss, TaskLoss, WeightedSum
from .square import square_attack
from .transfer import BankAttack, TransferAttack

__all__ = [
    'APGD',
    'PGD',
    'AdversarialAttackHook',
    'Attack',
    'AttackBank',
    'AttackResult',
    'Audit',
    'BankAttack',
    'Budget',
    'Corruption',
    'FusionObjective',
    'Losses',
    'PixelLoss',
    'Square',
    'TaskLoss',
    'TransferAttack',
    'WeightedSum',
    'auto_pgd',
    'square_attack',
    'frozen',
    'projected_gradient',
]
