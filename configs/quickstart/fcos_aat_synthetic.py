# Adaptive Adversarial Training for detection, with larger steps than the paper's as iterations are few.
_base_ = './fcos_sat_synthetic.py'

custom_hooks = [
    dict(
        type='paif_mm.AATMetaInitHook',
        bank='data/banks/synthetic_boxes',
        iters=60,
        inner_steps=3,
        inner_lr=1e-2,
        optimizer=dict(type='Adam', lr=2e-3),
        warm_start_iters=40,
        warm_start_optimizer=dict(type='Adam', lr=5e-4),
        batch_size=4,
        num_workers=1,
    ),
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, phases=('train',)),
]
