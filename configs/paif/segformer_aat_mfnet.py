# Adaptive Adversarial Training (Alg. 2): meta-initialise the fusion network on an attack bank, warm start, then SAT.
# The numbers of iterations and the optimizers' kind are ours; the paper gives steps, learning rates and attacks.
_base_ = './segformer_sat_mfnet.py'

custom_hooks = [
    dict(
        type='paif_mm.AATMetaInitHook',
        bank='data/banks/mfnet',
        iters=1000,
        inner_steps=10,
        inner_lr=1e-4,
        optimizer=dict(type='SGD', lr=1e-3),
        warm_start_iters=500,
        warm_start_optimizer=dict(type='SGD', lr=1e-3),
        batch_size=4,
        crop_size=(240, 320),
    ),
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack={{_base_.attack}}, ratio=0.5, phases=('train',)),
]
