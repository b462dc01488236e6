# mmdet's own FCOS (R50-FPN) behind the searched fusion network, on M3FD. Model, schedule and optimizer are mmdet's.
_base_ = [
    '../_base_/models/fcos_r50.py',
    '../_base_/datasets/m3fd.py',
    '../_base_/recipes/general_detection.py',
    '../_base_/schedules/schedule_fcos_1x.py',
    '../_base_/detection_runtime.py',
]
_base_.model.bbox_head.num_classes = _base_.num_classes
