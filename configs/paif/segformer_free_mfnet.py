# As segformer_general_mfnet.py with 'free' training: 5000 iterations of four optimizer steps.
_base_ = ['./segformer_general_mfnet.py', '../_base_/recipes/free.py']

_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 250
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = 5000
_base_.train_cfg.val_interval = 500
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
