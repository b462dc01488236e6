# CMX on two MiT-B0, on MFNet. Offline, without ImageNet's weights: --cfg-options model.backbone.stream.init_cfg=None
_base_ = [
    '../_base_/models/cmx_mit-b0.py',
    '../_base_/datasets/mfnet.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
checkpoint = 'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b0_20220624-7e0fe6dd.pth'

_base_.model.data_preprocessor.size = _base_.crop_size
_base_.model.backbone.stream.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
