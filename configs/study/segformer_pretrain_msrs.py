# The start of every row of the study: T trained on the plain average of both luminances, at 160x120, because no
# ImageNet weights can be had everywhere. The rows then differ in the fusion network and in the training only.
_base_ = '../msrs_half/segformer_general_msrs.py'

scale = (160, 120)
crop_size = (96, 128)  # never padded: mmseg 1.2.2 cannot weigh classes where labels are ignored
max_iters = 2500

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='AverageFusion'),
        task=dict(size=crop_size),
    )
)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='paif_mm.LoadPairAnnotations'),  # measured at the labels' own 320x240
    dict(type='PackSegInputs'),
]
tta_pipeline = [*test_pipeline[:2], {{_base_.tta_views}}]
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
custom_hooks = []
