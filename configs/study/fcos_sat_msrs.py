# Standard adversarial training: half of each batch attacked by PGD-5 at 4/255 on the detector's own losses.
_base_ = './fcos_general_msrs.py'

attack = dict(type='PGD', eps=4 / 255, step_size=1 / 255, steps=5, random_start=True, keep='last')
custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0),
    dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.5, phases=('train',)),
]
