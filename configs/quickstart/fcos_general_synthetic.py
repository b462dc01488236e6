# A small FCOS on synthetic street scenes with boxes, minutes on two CPU cores:
# python tools/make_synthetic.py data/synthetic
_base_ = '../msrs_half/fcos_general_msrs.py'

data_root = 'data/synthetic'
scale = (128, 96)
max_iters = 600

model = dict(
    backbone=dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2)),
    neck=dict(in_channels=[32, 64, 128], start_level=0),
    bbox_head=dict(strides=[4, 8, 16], regress_ranges=((-1, 24), (24, 48), (48, 1e8))),
)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(96, 128)),
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
files = dict(data_root=data_root, data_prefix=dict(_delete_=True, img='images'))
train_dataloader = dict(
    dataset=dict(**files, pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(**files, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
