# Harmonized Defence Search with the paper's numbers: AdamW 8e-5 for the weights, SGD 5e-3 for the alphas, 100k
# iterations, an architecture step after every fifth weight step. The warm start's length and the decay are ours.
max_iters = 100000
warmup_iters = 5000

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
        dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1000, end=max_iters, by_epoch=False),
    ],
    alphas=[],
)
train_cfg = dict(
    type='paif_mm.HDSTrainLoop',
    max_iters=max_iters,
    warmup_iters=warmup_iters,
    arch_interval=5,
    bilevel='best_response',
    lower_level='fusion',
    val_interval=10000,
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
