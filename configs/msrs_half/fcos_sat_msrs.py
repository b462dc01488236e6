# As fcos_general_msrs.py with half of each batch attacked by PGD-5 at 4/255 on the detector's own losses.
_base_ = ['./fcos_general_msrs.py', '../_base_/recipes/sat_eps4.py']

custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
