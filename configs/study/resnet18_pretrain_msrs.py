# The start of every row of the study: T trained on the plain average of both luminances, at 160x120, because no
# ImageNet weights can be had everywhere. The rows then differ in the fusion network and in the training only.
_base_ = './resnet18_general_msrs.py'

_base_.model.data_preprocessor.fusion = dict(type='AverageFusion')
_base_.train_dataloader.batch_size = _base_.auto_scale_lr.base_batch_size = 8
_base_.optim_wrapper.optimizer.lr = 1e-3
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 100
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 2500
custom_hooks = []
load_from = None
