# As segformer_general_msrs.py with half of each batch attacked by PGD-5 at 8/255: about 3.5 times as long.
_base_ = ['./segformer_general_msrs.py', '../_base_/attacks/pgd5_eps8.py']

custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, phases=('train',)),
]
