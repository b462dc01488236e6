# T trained on under attack: the pretrained T on the plain average, all of each batch attacked by PGD-3 at 4/255, and a
# moving average of its weights. Before: segformer_pretrain_msrs.py
_base_ = ['./segformer_pretrain_msrs.py', '../_base_/recipes/pgd3.py', '../_base_/recipes/moving_average.py']

_base_.model.backbone.init_cfg = None
_base_.adversarial_training.attack.update(eps=4 / 255, step_size=2 / 255)
_base_.adversarial_training.ramp.eps = 100
_base_.moving_average.momentum = 0.01
_base_.optim_wrapper.optimizer.lr = 5e-4
custom_hooks = [_base_.moving_average, _base_.adversarial_training]
load_from = 'work_dirs/segformer_pretrain_msrs/iter_3300.pth'
