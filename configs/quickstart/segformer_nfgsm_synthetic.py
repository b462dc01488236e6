# As segformer_general_synthetic.py with all of each batch attacked by one step, N-FGSM at 4/255.
_base_ = ['./segformer_general_synthetic.py', '../_base_/recipes/nfgsm.py']

_base_.adversarial_training.attack.eps = _base_.overfitting_monitor.attack.eps = 4 / 255
_base_.overfitting_monitor.fallback.update(eps=4 / 255, step_size=2 / 255)
_base_.overfitting_monitor.interval = 100
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training, _base_.overfitting_monitor]
