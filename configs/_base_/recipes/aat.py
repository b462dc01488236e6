# Adaptive Adversarial Training (Alg. 2): meta-initialise the fusion network on an attack bank, warm start, then SAT.
# To a config of SAT, it adds: custom_hooks = [dict(_base_.meta_initialisation, bank=FOLDER), *_base_.custom_hooks]
# The numbers of iterations and the optimizers' kind are ours; the paper gives steps, learning rates and attacks.
meta_initialisation = dict(
    type='paif_mm.AATMetaInitHook',
    iters=1000,
    inner_steps=10,
    inner_lr=1e-4,
    optimizer=dict(type='SGD', lr=1e-3),
    warm_start_iters=500,
    warm_start_optimizer=dict(type='SGD', lr=1e-3),
    batch_size=4,
)
