# MSRS at half resolution (320x240), SegFormer MiT-B0 from scratch: about 15 minutes on two CPU cores.
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half.
_base_ = [
    '../_base_/models/segformer_light.py',
    '../_base_/datasets/msrs_half.py',
    '../_base_/recipes/general.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
default_hooks = dict(checkpoint=dict(interval=200))
