# Standard adversarial training whose first quarter is not attacked.
_base_ = './sat_msrs.py'

custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, begin=200, phases=('train',)),
]
