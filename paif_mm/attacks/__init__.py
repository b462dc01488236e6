"""Adversarial attacks on any OpenMMLab model, within budgets on raw pixels."""

from .alma_prox import alma_prox
from .attack import APGD, PGD, Attack, AttackResult, Square
from .audit import Audit
from .auto_pgd import auto_pgd
from .bank import AttackBank
from .corruption import Corruption
from .dag import dag
from .free import FreeAdversarialHook
from .frozen import frozen
from .functional import Budget, Losses, projected_gradient
from .fusion_attacks import Disagreement, HiddenInFused, PassedOn, WeakestModality
from .hook import AdversarialAttackHook
from .minimum_norm_attacks import DAG, PDPGD, ALMAProx
from .objectives import FusionObjective, PixelLoss, TaskLoss, WeightedSum
from .overfitting import OverfittingMonitorHook
from .patches import PatchAttack, UniversalPerturbation
from .pdpgd import pdpgd
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
    'DAG',
    'PDPGD',
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
    'dag',
    'pdpgd',
    'square_attack',
    'frozen',
    'projected_gradient',
]
