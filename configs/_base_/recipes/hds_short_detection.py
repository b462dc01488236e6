# As hds_short.py for detectors: their own losses as they are, AdamW with clipped gradients.
_base_ = './hds_short.py'

_base_.custom_hooks[0].task_weight = 1.0
_base_.optim_wrapper.weights = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
