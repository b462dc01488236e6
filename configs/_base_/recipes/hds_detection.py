# As hds.py for detectors: their own losses as they are, and the optimizer of mmdet's FCOS for the weights.
_base_ = './hds.py'

_base_.custom_hooks[0].task_weight = 1.0
_base_.param_scheduler.weights[0].start_factor = 1e-3
_base_.optim_wrapper.weights = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
