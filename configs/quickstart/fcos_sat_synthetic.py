# As fcos_general_synthetic.py with half of each batch attacked by PGD-3 at 4/255.
_base_ = ['./fcos_general_synthetic.py', '../_base_/recipes/sat_short.py']

custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
