# GMNet on ResNet-18 of half the width, from scratch on MSRS at half resolution (320x240): sized for a CPU.
_base_ = [
    '../_base_/models/gmnet_resnet18.py',
    '../_base_/datasets/msrs_half.py',
    '../_base_/schedules/schedule_3k.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.size = _base_.crop_size
_base_.train_dataloader.batch_size = _base_.auto_scale_lr.base_batch_size
