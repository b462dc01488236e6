# Adaptive Adversarial Training for detection: the same hook as for segmentation, on a bank crafted on a detector.
_base_ = './fcos_sat_m3fd.py'

custom_hooks = [
    dict(
        type='paif_mm.AATMetaInitHook',
        bank='data/banks/m3fd',
        iters=1000,
        inner_steps=10,
        inner_lr=1e-4,
        optimizer=dict(type='SGD', lr=1e-3),
        warm_start_iters=500,
        warm_start_optimizer=dict(type='SGD', lr=1e-3),
        batch_size=4,
        crop_size=(240, 320),
    ),
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, phases=('train',)),
]
