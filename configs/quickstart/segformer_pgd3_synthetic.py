# As segformer_general_synthetic.py with all of each batch attacked by PGD-3, up to 4/255 after 100 iterations.
_base_ = ['./segformer_general_synthetic.py', '../_base_/recipes/pgd3.py']

_base_.adversarial_training.attack.update(eps=4 / 255, step_size=2 / 255)
_base_.adversarial_training.ramp.eps = 100
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
