# LASNet as published, on MFNet. Offline, without ImageNet's weights: --cfg-options model.backbone.init_cfg=None
_base_ = [
    '../_base_/models/lasnet.py',
    '../_base_/datasets/mfnet.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.size = _base_.crop_size
_base_.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='torchvision://resnet152')
