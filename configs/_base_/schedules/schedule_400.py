# 400 iterations of a small network from scratch: AdamW 2e-3.
_base_ = './schedule_1k.py'

_base_.optim_wrapper.optimizer.lr = 2e-3
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 50
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 400
