# As segformer_general_synthetic.py with all of each batch attacked by one controlled step of at most 4/255.
_base_ = ['./segformer_general_synthetic.py', '../_base_/recipes/step_control.py']

_base_.adversarial_training.attack.eps = 4 / 255
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
