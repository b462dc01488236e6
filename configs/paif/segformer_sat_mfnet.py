# Standard adversarial training of the paper (Table 3): half of each batch attacked by PGD-5 at 8/255.
_base_ = ['./segformer_general_mfnet.py', '../_base_/recipes/sat.py']

custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
