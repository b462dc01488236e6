"""Adversarial attacks on any OpenMMLab model, within budgets on raw pixels."""

from .alma import ALMAProx
from .attack import APGD, PGD, Attack, AttackResult, Square
from .audit import Audit
from .auto_pgd import auto_pgd
from .bank import AttackBank
from .corruption import Corruption
from .free import FreeAdversarialHook
from .frozen import frozen
from .functional import Budget, Losses, projected_gradient
from .fusion_attacks import Disagreement, HiddenInFused, PassedOn, WeakestModality
from .hook import AdversarialAttackHook
from .minimum_norm import alma_prox
from .objectives import FusionObjective, PixelLoss, TaskLoss, WeightedSum
from .overfitting import OverfittingMonitorHook
from .patches import PatchAttack, UniversalPerturbation
from .single_step import NFGSM, StepControlFGSM
from .square import square_attack
from .targeted import Targeted
from .tog import TOG
from .transfer import BankAttack, TransferAttack

__all__ = [
    'PatchAttack',
    'UniversalPerturbation',
    'Targeted',
    'WeakestModality',
    'PassedOn',
    'HiddenInFused',
    'Disagreement',
    'TOG',
    'ALMAProx',
    'APGD',
    'NFGSM',
    'PGD',
    'AdversarialAttackHook',
    'Attack',
    'AttackBank',
    'AttackResult',
    'Audit',
    'BankAttack',
    'Budget',
    'Corruption',
    'FreeAdversarialHook',
    'FusionObjective',
    'Losses',
    'OverfittingMonitorHook',
    'PixelLoss',
    'Square',
    'StepControlFGSM',
    'TaskLoss',
    'TransferAttack',
    'WeightedSum',
    'alma_prox',
    'auto_pgd',
    'square_attack',
    'frozen',
    'projected_gradient',
]
