# TRADES: clean pairs, and 6 times the divergence of what the model says of them under PGD-3 at 8/255.
# To a config of general training, it adds: custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
_base_ = './pgd3.py'

adversarial_training = dict(trades=6.0)
