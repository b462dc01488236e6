# As resnet18_pretrain_msrs.py with SegFormer MiT-B0, which learns less in these iterations.
_base_ = [
    '../_base_/models/segformer_light.py',
    '../_base_/datasets/msrs_quarter.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.fusion = dict(type='AverageFusion')
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
_base_.train_dataloader.batch_size = _base_.auto_scale_lr.base_batch_size = 8
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 2500
custom_hooks = []
default_hooks = dict(checkpoint=dict(interval=200))
