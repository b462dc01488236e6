# Harmonized Defence Search (Alg. 1) with the paper's numbers: AdamW 8e-5 for the weights, SGD 5e-3 for the alphas, 100k
# iterations, an architecture step after every fifth weight step. The warm start's length and the decay are ours.
# A search has its own loop and optimizers: this stands in place of general.py and of a schedule. The model gets its
# network in the config: _base_.model.data_preprocessor.fusion = _base_.supernet
_base_ = './general.py'

supernet = dict(type='FusionSupernet', candidates=['3-DC', '7-RB', '3-DB', 'CA'], channels=32)

train_cfg = dict(
    type='paif_mm.HDSTrainLoop',
    max_iters=100000,
    warmup_iters=5000,
    arch_interval=5,
    bilevel='best_response',
    lower_level='fusion',
    val_interval=10000,
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    constructor='paif_mm.HDSOptimWrapperConstructor',
    weights=dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=8e-5, betas=(0.9, 0.999), weight_decay=0.01),
    ),
    alphas=dict(optimizer=dict(type='SGD', lr=5e-3)),
)
param_scheduler = dict(
    weights=[
        dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1000),
        dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1000, end=100000, by_epoch=False),
    ],
    alphas=[],
)
auto_scale_lr = dict(enable=False, base_batch_size=4)  # of --auto-scale-lr: the batch of all processes

# A quarter of each batch is attacked, once the warm start is over; architecture steps see clean pairs.
attack = dict(type='PGD', eps=2 / 255, step_size=2 / 255 / 4, steps=3, random_start=True, keep='last')
adversary = dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.25, begin=train_cfg['warmup_iters'])
custom_hooks = [*_base_.custom_hooks, adversary]
del adversary
