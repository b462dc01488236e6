# MFNet in its own layout: data/mfnet/{images,labels}/ID.png and train.txt, val.txt, test.txt
_base_ = '../tta/segmentation.py'

dataset_type = 'paif_mm.MFNetDataset'
data_root = 'data/mfnet'
crop_size = (480, 640)
batch_size = 4
num_workers = 4

train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(640, 480), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [test_pipeline[0], {{_base_.tta_views}}]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='val.txt', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file='test.txt', test_mode=True, pipeline=test_pipeline),
)
val_evaluator = dict(type='paif_mm.PairIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
