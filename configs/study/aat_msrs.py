# Adaptive Adversarial Training. Meta-initialisation and warm start take about as long as 190 iterations of adversarial
# training, of which 150 are therefore missing at its end: this trains for about as long as sat_msrs.py.
_base_ = './sat_msrs.py'

max_iters = 650
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
custom_hooks = [
    dict(
        type='paif_mm.AATMetaInitHook',
        bank='data/banks/study_msrs',
        iters=60,
        inner_steps=3,
        inner_lr=1e-2,
        optimizer=dict(type='Adam', lr=2e-3),
        warm_start_iters=40,
        warm_start_optimizer=dict(type='Adam', lr=5e-4),
        batch_size=4,
        crop_size={{_base_.crop_size}},
        num_workers=0,
    ),
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, phases=('train',)),
]
