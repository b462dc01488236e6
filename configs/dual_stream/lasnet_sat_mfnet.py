# Standard adversarial training: half of each batch attacked by PGD-5 at 8/255.
_base_ = ['./lasnet_general_mfnet.py', '../_base_/recipes/sat.py']

custom_hooks = [_base_.adversarial_training]
