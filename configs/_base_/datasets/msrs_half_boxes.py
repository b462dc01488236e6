# Boxes on MSRS at half resolution, 320x240: persons, bicycles, cars, in COCO's format.
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half.
_base_ = './m3fd.py'

num_classes = 3
scale = (320, 240)

train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='RandomResize', scale=scale, ratio_range=(0.8, 1.3), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(192, 256)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackDetInputs'),
]
_base_.test_pipeline[1].scale = scale
tta_pipeline = [*_base_.test_pipeline[:2], _base_.tta_views]

data = dict(type='paif_mm.PairCocoDataset', data_root='{{$PAIF_MM_DATA:data}}/msrs_half')
train_set = dict(
    **data,
    ann_file='annotations/instances_train.json',
    data_prefix=dict(img='train/vi', ir='train/ir'),
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=train_pipeline,
)
val_set = dict(
    **data,
    ann_file='annotations/instances_val.json',
    data_prefix=dict(img='val/vi', ir='val/ir'),
    test_mode=True,
    pipeline=_base_.test_pipeline,
)
train_dataloader = dict(
    num_workers=1,
    sampler=dict(_delete_=True, type='InfiniteSampler'),
    batch_sampler=None,
    dataset=dict(_delete_=True, **train_set),
)
val_dataloader = dict(num_workers=1, dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader
