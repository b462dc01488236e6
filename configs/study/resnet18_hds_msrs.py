# Harmonized Defence Search behind the pretrained T, at the rows' size and with the rows' weights' schedule.
_base_ = [
    '../_base_/models/segformer_resnet18.py',
    '../_base_/datasets/msrs_quarter.py',
    '../_base_/recipes/hds_short.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
_base_.optim_wrapper.weights.optimizer.lr = 3e-4
_base_.param_scheduler.weights[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 700
default_hooks = dict(checkpoint=dict(interval=200))
load_from = 'work_dirs/resnet18_pretrain_msrs/iter_2500.pth'
