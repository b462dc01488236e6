# mmdet's own FCOS (R50-FPN) behind a fusion network. Without a network for the ImageNet weights of its backbone:
# --cfg-options model.backbone.init_cfg=None
_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'

[_base_.pop(key) for key in _base_.keys() - {'model'}]  # data, schedule and runtime have homes of their own
_base_.model.data_preprocessor = dict(
    type='paif_mm.FusionDataPreprocessor',
    fusion=dict(type='FusionNet', genotype='paif', channels=32),
    task=_base_.model.data_preprocessor,
)
