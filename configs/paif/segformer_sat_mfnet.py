# Standard adversarial training of the paper (Table 3): half of each batch attacked by PGD-5 at 8/255.
_base_ = ['./segformer_general_mfnet.py', '../_base_/attacks/pgd5_eps8.py']

custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, phases=('train',)),
]
