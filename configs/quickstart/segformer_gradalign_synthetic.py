# As segformer_general_synthetic.py with all of each batch attacked by FGSM at 4/255, gradients aligned.
_base_ = ['./segformer_general_synthetic.py', '../_base_/recipes/gradalign.py']

_base_.adversarial_training.attack.update(eps=4 / 255, step_size=5 / 255)
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
