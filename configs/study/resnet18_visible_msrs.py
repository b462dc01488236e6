# A stock mmseg model without any fusion: the pretrained T's architecture on visible images alone.
_base_ = './resnet18_pretrain_msrs.py'

_base_.model.data_preprocessor = _base_.model.data_preprocessor.task
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    *_base_.train_pipeline[2:5],
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    _base_.test_pipeline[1],
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [*test_pipeline[:2], _base_.tta_views]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 2000
