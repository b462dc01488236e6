# Adaptive Adversarial Training in minutes on two CPU cores (make aat). From scratch and in few iterations,
# meta-initialisation needs larger steps than the paper's.
_base_ = './segformer_sat_synthetic.py'

custom_hooks = [
    dict(
        type='paif_mm.AATMetaInitHook',
        bank='data/banks/synthetic',
        iters=40,
        inner_steps=3,
        inner_lr=1e-2,
        optimizer=dict(type='Adam', lr=2e-3),
        warm_start_iters=20,
        warm_start_optimizer=dict(type='Adam', lr=5e-4),
        batch_size=4,
        num_workers=1,
    ),
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, phases=('train',)),
]
