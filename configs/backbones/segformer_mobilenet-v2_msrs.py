_base_ = [
    '../_base_/models/segformer_mobilenet-v2.py',
    '../_base_/datasets/msrs_half.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.fusion = dict(type='AverageFusion')
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
_base_.train_dataloader.batch_size = _base_.auto_scale_lr.base_batch_size = 8
_base_.optim_wrapper.optimizer.lr = 1e-3
default_hooks = dict(checkpoint=dict(interval=200))
