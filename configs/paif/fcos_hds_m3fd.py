# Harmonized Defence Search (Alg. 1) with FCOS behind the fusion network; the loop counts iterations.
# Writes genotype.json into the work dir; fcos_hds_retrain_sat_m3fd.py trains what it found.
_base_ = './fcos_general_m3fd.py'

max_iters = 100000
warmup_iters = 5000

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionSupernet', candidates=['3-DC', '7-RB', '3-DB', 'CA'], channels=32)
    )
)
optim_wrapper = dict(
    _delete_=True,
    constructor='paif_mm.HDSOptimWrapperConstructor',
    weights={{_base_.optim_wrapper}},  # mmdet's
    alphas=dict(optimizer=dict(type='SGD', lr=5e-3)),
)
param_scheduler = dict(
    _delete_=True,
    weights=[
        dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
        dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1000, end=max_iters, by_epoch=False),
    ],
    alphas=[],
)
train_cfg = dict(
    _delete_=True,
    type='paif_mm.HDSTrainLoop',
    max_iters=max_iters,
    warmup_iters=warmup_iters,
    arch_interval=5,
    bilevel='best_response',
    lower_level='fusion',
    val_interval=10000,
)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000),
)
attack = dict(type='PGD', eps=2 / 255, step_size=2 / 255 / 4, steps=3, random_start=True, keep='last')
custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0),
    dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.25, begin=warmup_iters),
]
