# The start of the detection rows of the study: FCOS trained on the plain average of both luminances.
_base_ = './fcos_general_msrs.py'

_base_.model.data_preprocessor.fusion = dict(type='AverageFusion')
_base_.optim_wrapper.optimizer.lr = 1e-3
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 100
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 1500
custom_hooks = []
load_from = None
