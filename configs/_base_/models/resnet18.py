# mmpretrain's ResNet-18 as a classifier of pairs, behind a narrow fusion network.
_base_ = 'mmpretrain::_base_/models/resnet18.py'

model = dict(
    data_preprocessor=dict(
        type='paif_mm.FusionDataPreprocessor',
        fusion=dict(type='FusionNet', channels=8),
        task=dict(
            type='ClsDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
        ),
    ),
    head=dict(topk=(1,)),
)
