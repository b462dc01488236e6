# Harmonized Defence Search in minutes on two CPU cores (make search): as the paper's, on synthetic street scenes.
_base_ = [
    '../_base_/models/segformer_mini.py',
    '../_base_/datasets/synthetic.py',
    '../_base_/recipes/hds_short.py',
    '../_base_/default_runtime.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.loss_decode.class_weight = _base_.class_weight
_base_.optim_wrapper.alphas.optimizer.lr = 3.0  # 60 architecture steps instead of 19000
default_hooks = dict(checkpoint=dict(interval=100))
