# mmdet's own schedule of FCOS: 12 epochs of SGD .01, here for a batch of 4.
_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

own = {'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr'}
[_base_.pop(key) for key in _base_.keys() - own]  # model, data and runtime have homes of their own
del own
_base_.auto_scale_lr.base_batch_size = 4
