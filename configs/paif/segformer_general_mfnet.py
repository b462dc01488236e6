# 'General' training of the paper (Table 3): clean pairs, SegFormer MiT-B3 on MFNet.
_base_ = [
    '../_base_/models/segformer_mit-b3.py',
    '../_base_/datasets/mfnet.py',
    '../_base_/recipes/general.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
# ImageNet weights of mmseg; offline: --cfg-options model.backbone.init_cfg=None
checkpoint = 'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b3_20220624-13b1141c.pth'

_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
