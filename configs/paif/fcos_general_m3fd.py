# mmdet's own FCOS (R50-FPN) behind the searched fusion network, on M3FD: data/m3fd/{Vis,Ir,Annotation}, train.txt,
# test.txt. Model, schedule and optimizer are mmdet's; without a network for the ImageNet weights of its backbone:
# --cfg-options model.backbone.init_cfg=None
_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', '../_base_/tta/detection.py']
custom_imports = dict(imports=['paif_mm'])

model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='paif_mm.FusionDataPreprocessor',
        fusion=dict(type='FusionNet', genotype='paif', channels=32),
        task={{_base_.model.data_preprocessor}},
    ),
    bbox_head=dict(num_classes=6),
)

scale = (1024, 768)  # M3FD's own size: attacks change the pixels that the network sees, after any resizing
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
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
data = dict(_delete_=True, type='paif_mm.M3FDDataset', data_root='data/m3fd')
train_dataloader = dict(
    batch_size=4,
    dataset=dict(**data, ann_file='train.txt', filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(**data, ann_file='test.txt', test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='CocoMetric', metric='bbox', classwise=True),
    dict(type='VOCMetric', metric='mAP', eval_mode='area'),
    dict(type='paif_mm.ObjectOutcomeMetric'),
]
test_evaluator = val_evaluator

randomness = dict(seed=0)
default_hooks = dict(
    checkpoint=dict(type='paif_mm.ResumableCheckpointHook', max_keep_ckpts=2),
    visualization=dict(_delete_=True, type='paif_mm.PairVisualizationHook'),
)
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0)]
