# 800 iterations from a pretrained T: AdamW 3e-4.
_base_ = './schedule_1k.py'

_base_.optim_wrapper.optimizer.lr = 3e-4
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 50
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 800
