# Normal training of the searched network and the pretrained T: a narrow ResNet-18 under SegFormer's all-MLP head.
_base_ = [
    '../_base_/models/segformer_resnet18.py',
    '../_base_/datasets/msrs_quarter.py',
    '../_base_/recipes/general.py',
    '../_base_/schedules/schedule_800.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
default_hooks = dict(checkpoint=dict(interval=200))
load_from = 'work_dirs/resnet18_pretrain_msrs/iter_2500.pth'
