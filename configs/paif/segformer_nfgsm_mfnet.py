# As segformer_general_mfnet.py with all of each batch attacked by one step, N-FGSM.
_base_ = ['./segformer_general_mfnet.py', '../_base_/recipes/nfgsm.py']

custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training, _base_.overfitting_monitor]
