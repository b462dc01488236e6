# MFNet in its own layout: data/mfnet/{images,labels}/ID.png and train.txt, val.txt, test.txt
_base_ = '../tta/segmentation.py'

num_classes = 9
crop_size = (480, 640)

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
tta_pipeline = [test_pipeline[0], _base_.tta_views]

data = dict(type='paif_mm.MFNetDataset', data_root='data/mfnet')
workers = dict(num_workers=4, persistent_workers=True)
in_order = dict(type='DefaultSampler', shuffle=False)
train_dataloader = dict(
    batch_size=4,
    **workers,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**data, ann_file='train.txt', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    **workers,
    sampler=in_order,
    dataset=dict(**data, ann_file='val.txt', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], ann_file='test.txt'))
val_evaluator = dict(type='paif_mm.PairIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
