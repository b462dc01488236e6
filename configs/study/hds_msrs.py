# Harmonized Defence Search behind the pretrained T, at the rows' size and with the rows' weights' schedule.
_base_ = './general_msrs.py'

max_iters = 700
warmup_iters = 100
alpha_lr = 2.0  # 120 architecture steps instead of 19000 call for longer ones than the paper's 5e-3

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionSupernet', candidates=['3-DC', '7-RB', '3-DB', 'CA'], channels=8)
    )
)
optim_wrapper = dict(
    _delete_=True,
    constructor='paif_mm.HDSOptimWrapperConstructor',
    weights={{_base_.optim_wrapper}},
    alphas=dict(optimizer=dict(type='SGD', lr=alpha_lr)),
)
param_scheduler = dict(
    _delete_=True,
    weights=[
        dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
        dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=max_iters, by_epoch=False),
    ],
    alphas=[],
)
train_cfg = dict(
    _delete_=True,
    type='paif_mm.HDSTrainLoop',
    max_iters=max_iters,
    warmup_iters=warmup_iters,
    arch_interval=5,
    val_interval=max_iters,
)
# A quarter of each batch is attacked, once the warm start is over; architecture steps see clean pairs.
attack = dict(type='PGD', eps=2 / 255, step_size=2 / 255 / 4, steps=3, random_start=True, keep='last')
custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.25, begin=warmup_iters),
]
