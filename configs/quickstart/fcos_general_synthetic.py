# A small FCOS on synthetic street scenes with boxes, minutes on two CPU cores:
# python tools/make_synthetic.py data/synthetic
_base_ = [
    '../_base_/models/fcos_mini.py',
    '../_base_/datasets/synthetic_boxes.py',
    '../_base_/recipes/general_detection.py',
    '../_base_/schedules/schedule_2k_detection.py',
    '../_base_/detection_runtime_iters.py',
]
_base_.model.bbox_head.num_classes = _base_.num_classes
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 50
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 600
