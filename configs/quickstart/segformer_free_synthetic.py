# As segformer_general_synthetic.py with 'free' training at 4/255: 100 iterations of four optimizer steps.
_base_ = ['./segformer_general_synthetic.py', '../_base_/recipes/free.py']

_base_.adversarial_training.eps = 4 / 255
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 12
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 100
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
