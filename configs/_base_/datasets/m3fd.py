# M3FD's own layout: data/m3fd/{Vis,Ir,Annotation}/ID, and lists of ids, train.txt and test.txt.
_base_ = '../tta/detection.py'

num_classes = 6
scale = (1024, 768)  # M3FD's own size: attacks change the pixels that the network sees, after any resizing

train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.PlanarLayout'),
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
tta_pipeline = [*test_pipeline[:2], _base_.tta_views]

data = dict(type='paif_mm.M3FDDataset', data_root='data/m3fd')
workers = dict(num_workers=2, persistent_workers=True)
train_dataloader = dict(
    batch_size=4,
    **workers,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(**data, ann_file='train.txt', filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    **workers,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, ann_file='test.txt', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='CocoMetric', metric='bbox', classwise=True),
    dict(type='VOCMetric', metric='mAP', eval_mode='area'),
    dict(type='paif_mm.ObjectOutcomeMetric'),
]
test_evaluator = val_evaluator
