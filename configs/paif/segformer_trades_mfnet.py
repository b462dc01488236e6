# As segformer_general_mfnet.py with TRADES.
_base_ = ['./segformer_general_mfnet.py', '../_base_/recipes/trades.py']

custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
