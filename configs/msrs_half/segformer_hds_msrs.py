# Harmonized Defence Search on MSRS at half resolution, crops of 128x160: about half an hour on two CPU cores.
_base_ = [
    '../_base_/models/segformer_light.py',
    '../_base_/datasets/msrs_half_small_crops.py',
    '../_base_/recipes/hds_short.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
_base_.optim_wrapper.weights.optimizer.lr = 6e-4
_base_.param_scheduler.weights[0].end = _base_.param_scheduler.weights[1].begin = 100
_base_.train_cfg.warmup_iters = _base_.custom_hooks[1].begin = 200
_base_.param_scheduler.weights[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 1100
default_hooks = dict(checkpoint=dict(interval=200))
