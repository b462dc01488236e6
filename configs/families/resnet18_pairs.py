# mmpretrain's ResNet-18 as a classifier of pairs, e.g. day against night: data/pairs/{train,val}/CLASS/ID.png, RGBA
# with infrared as fourth channel.
_base_ = [
    'mmpretrain::_base_/models/resnet18.py',
    '../_base_/datasets/class_folders.py',
    '../_base_/recipes/general_detection.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['paif_mm'])

_base_.model.data_preprocessor = dict(
    type='paif_mm.FusionDataPreprocessor',
    fusion=dict(type='FusionNet', channels=8),
    task=dict(
        type='ClsDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        num_classes=_base_.num_classes,
    ),
)
_base_.model.head.update(num_classes=_base_.num_classes, topk=(1,))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=10)
val_cfg = dict()
test_cfg = dict()
