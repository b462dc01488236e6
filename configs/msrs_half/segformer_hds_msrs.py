# Harmonized Defence Search on MSRS at half resolution, crops of 128x160: about half an hour on two CPU cores.
_base_ = './segformer_general_msrs.py'

crop_size = (128, 160)
max_iters = 1100
warmup_iters = 200
lr = 6e-4
alpha_lr = 2.0  # 180 architecture steps instead of 19000 call for longer ones than the paper's 5e-3
fusion_channels = 8

model = dict(
    data_preprocessor=dict(
        fusion=dict(
            _delete_=True,
            type='FusionSupernet',
            candidates=['3-DC', '7-RB', '3-DB', 'CA'],
            channels=fusion_channels,
        ),
        task=dict(size=crop_size),
    )
)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    _delete_=True,
    constructor='paif_mm.HDSOptimWrapperConstructor',
    weights=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.01)),
    alphas=dict(optimizer=dict(type='SGD', lr=alpha_lr)),
)
param_scheduler = dict(
    _delete_=True,
    weights=[
        dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
        dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=max_iters, by_epoch=False),
    ],
    alphas=[],
)
train_cfg = dict(
    type='paif_mm.HDSTrainLoop', max_iters=max_iters, warmup_iters=warmup_iters, arch_interval=5, val_interval=max_iters
)
attack = dict(type='PGD', eps=2 / 255, step_size=2 / 255 / 4, steps=3, random_start=True, keep='last')
custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.25, begin=warmup_iters),
]
