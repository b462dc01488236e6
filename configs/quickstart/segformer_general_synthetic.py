# A small SegFormer on synthetic street scenes, sized for a few minutes on two CPU cores (make demo).
_base_ = [
    '../_base_/models/segformer_mini.py',
    '../_base_/datasets/synthetic.py',
    '../_base_/recipes/general.py',
    '../_base_/schedules/schedule_400.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
default_hooks = dict(checkpoint=dict(interval=100))
