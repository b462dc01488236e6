# Harmonized Defence Search behind the pretrained T on MSRS at half resolution, crops of 128x160.
_base_ = [
    '../_base_/models/segformer_mobilenet-v2_lovasz.py',
    '../_base_/datasets/msrs_half_small_crops.py',
    '../_base_/recipes/hds_short.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode[0].class_weight = _base_.class_weight
_base_.optim_wrapper.weights.optimizer.lr = 5e-4
_base_.train_cfg.warmup_iters = _base_.custom_hooks[1].begin = 200
_base_.param_scheduler.weights[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 1100
default_hooks = dict(checkpoint=dict(interval=200))
load_from = 'work_dirs/segformer_pretrain_msrs/iter_3300.pth'
