# As segformer_general_mfnet.py with all of each batch attacked by PGD-3, and a moving average of the weights.
_base_ = ['./segformer_general_mfnet.py', '../_base_/recipes/pgd3.py', '../_base_/recipes/moving_average.py']

custom_hooks = [_base_.moving_average, *_base_.custom_hooks, _base_.adversarial_training]
