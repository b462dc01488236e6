# FCOS on MSRS at half resolution (320x240; persons, bicycles, cars), from scratch and light enough for a CPU:
# a narrow ResNet-18 and three levels, with the variants of FCOS that learn fastest (centre sampling, normalised boxes).
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half.
_base_ = '../paif/fcos_general_m3fd.py'

data_root = '{{$PAIF_MM_DATA:data}}/msrs_half'
scale = (320, 240)
max_iters = 2000

model = dict(
    data_preprocessor=dict(
        fusion=dict(channels=8),
        task=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_size_divisor=32),
    ),
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,  # mmdet's default keeps the statistics of a pretrained backbone
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=3),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32],
        regress_ranges=((-1, 48), (48, 96), (96, 1e8)),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=1.0),
    ),
)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=scale, ratio_range=(0.8, 1.3), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(192, 256)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
tta_pipeline = [*test_pipeline[:2], {{_base_.tta_views}}]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    batch_sampler=None,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
    dataset=dict(
        _delete_=True,
        type='paif_mm.PairCocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/vi', ir='train/ir'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        _delete_=True,
        type='paif_mm.PairCocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/vi', ir='val/ir'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=200),
)
