# As segformer_pgd3_synthetic.py with TRADES: clean pairs, held to what the model says of attacked ones.
_base_ = ['./segformer_general_synthetic.py', '../_base_/recipes/trades.py']

_base_.adversarial_training.attack.update(eps=4 / 255, step_size=2 / 255)
_base_.adversarial_training.ramp.eps = 100
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
