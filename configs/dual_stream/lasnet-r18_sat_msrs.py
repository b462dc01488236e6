# As lasnet-r18_general_msrs.py with half of each batch attacked by PGD-5 at 8/255; several times as long.
_base_ = ['./lasnet-r18_general_msrs.py', '../_base_/recipes/sat.py']

custom_hooks = [_base_.adversarial_training]
