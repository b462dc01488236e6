# 1000 iterations from scratch: AdamW 6e-4, higher than the 1e-4 that fine-tunes ImageNet weights.
_base_ = './schedule_20k.py'

_base_.optim_wrapper.optimizer.lr = 6e-4
_base_.param_scheduler[0].update(start_factor=1e-3, end=100)
_base_.param_scheduler[1].update(begin=100, end=1000)
_base_.train_cfg.update(max_iters=1000, val_interval=1000)
