# MSRS at half resolution (320x240), SegFormer MiT-B0 from scratch: about 15 minutes on two CPU cores.
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/msrs.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
data_root = '{{$PAIF_MM_DATA:data}}/msrs_half'
crop_size = (192, 256)
max_iters = 1000
warmup_iters = 100
lr = 6e-4  # from scratch: higher than the 1e-4 that fine-tunes ImageNet weights
fusion_channels = 8

model = dict(
    data_preprocessor=dict(fusion=dict(channels=fusion_channels), task=dict(size=crop_size)),
    backbone=dict(drop_path_rate=0.0),
    decode_head=dict(
        channels=128,
        dropout_ratio=0.0,
        # inverse square roots of the classes' shares of the training pixels, mean 1: unlabeled is 92 % of them
        loss_decode=dict(class_weight=[0.08, 0.35, 0.65, 1.14, 0.91, 0.97, 1.83, 1.73, 1.34]),
    ),
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
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(data_root=f'{data_root}/train', pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=dict(data_root=f'{data_root}/val'))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=200))
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0)]
