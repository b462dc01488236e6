# Harmonized Defence Search in minutes on two CPU cores (make search): as the paper's, on synthetic street scenes.
_base_ = './segformer_general_synthetic.py'

max_iters = 400
warmup_iters = 100
lr = 2e-3
alpha_lr = 3.0  # 60 architecture steps instead of 19000 call for longer ones than the paper's 5e-3

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionSupernet', candidates=['3-DC', '7-RB', '3-DB', 'CA'], channels=8)
    )
)
optim_wrapper = dict(
    _delete_=True,
    constructor='paif_mm.HDSOptimWrapperConstructor',
    weights=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.01)),
    alphas=dict(optimizer=dict(type='SGD', lr=alpha_lr)),
)
param_scheduler = dict(_delete_=True, weights={{_base_.param_scheduler}}, alphas=[])
train_cfg = dict(
    type='paif_mm.HDSTrainLoop', max_iters=max_iters, warmup_iters=warmup_iters, arch_interval=5, val_interval=max_iters
)
attack = dict(type='PGD', eps=2 / 255, step_size=2 / 255 / 4, steps=3, random_start=True, keep='last')
custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.25, begin=warmup_iters),
]
