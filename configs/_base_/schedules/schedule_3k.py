# 3300 iterations of batch 8 from ImageNet weights, AdamW 1e-3.
_base_ = './schedule_1k.py'

_base_.optim_wrapper.optimizer.lr = 1e-3
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 3300
_base_.auto_scale_lr.base_batch_size = 8
