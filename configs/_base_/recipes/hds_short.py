# As hds.py in 400 iterations from scratch. Few architecture steps call for longer ones than the paper's 5e-3.
_base_ = './hds.py'

supernet = dict(channels=8)
optim_wrapper = dict(weights=dict(optimizer=dict(lr=2e-3)), alphas=dict(optimizer=dict(lr=2.0)))
_base_.param_scheduler.weights[0].update(start_factor=1e-3, end=50)
_base_.param_scheduler.weights[1].update(begin=50, end=400)
_base_.train_cfg.update(max_iters=400, val_interval=400, warmup_iters=100)
_base_.custom_hooks[1].begin = 100
