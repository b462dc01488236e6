# mmpretrain's ResNet-18 as a classifier of pairs, e.g. day against night: data/pairs/{train,val}/CLASS/ID.png, RGBA
# with infrared as fourth channel.
_base_ = [
    'mmpretrain::_base_/models/resnet18.py',
    '../_base_/tta/classification.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['paif_mm'])

model = dict(
    data_preprocessor=dict(
        type='paif_mm.FusionDataPreprocessor',
        fusion=dict(type='FusionNet', channels=8),
        task=dict(
            type='ClsDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
            num_classes=2,
        ),
    ),
    head=dict(num_classes=2, topk=(1,)),
)
size = (96, 128)
pipeline = [dict(type='paif_mm.LoadPairFromFile'), dict(type='Resize', scale=size), dict(type='PackInputs')]
tta_pipeline = [*pipeline[:-1], {{_base_.tta_views}}]
data = dict(type='CustomDataset', data_root='data/pairs', pipeline=pipeline)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**data, data_prefix='train'),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, data_prefix='val'),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=10)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0)]
