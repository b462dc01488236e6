# Harmonized Defence Search with FCOS behind the fusion network, on MSRS at half resolution.
_base_ = [
    '../_base_/models/fcos_light.py',
    '../_base_/datasets/msrs_half_boxes.py',
    '../_base_/recipes/hds_short_detection.py',
    '../_base_/detection_runtime_iters.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.bbox_head.num_classes = _base_.num_classes
_base_.train_cfg.warmup_iters = _base_.custom_hooks[1].begin = 200
_base_.param_scheduler.weights[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 1100
