# As fcos_general_synthetic.py with half of each batch attacked by PGD-3 at 4/255.
_base_ = './fcos_general_synthetic.py'

attack = dict(type='PGD', eps=4 / 255, step_size=2 / 255, steps=3, random_start=True, keep='last')
custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0),
    dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.5, phases=('train',)),
]
