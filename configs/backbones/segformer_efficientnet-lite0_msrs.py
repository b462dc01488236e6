# As segformer_mobilenet-v2_msrs.py with timm's EfficientNet-Lite0 and its ImageNet weights.
_base_ = './segformer_mobilenet-v2_msrs.py'

_base_.model.data_preprocessor.task.update(mean=[127.0] * 3, std=[128.0] * 3)
_base_.model.backbone = dict(
    type='mmpretrain.TIMMBackbone',
    model_name='tf_efficientnet_lite0',
    features_only=True,
    out_indices=(1, 2, 3, 4),
    init_cfg=dict(type='Pretrained', checkpoint='imagenet://efficientnet_lite0'),
)
_base_.model.decode_head.in_channels = [24, 40, 112, 320]
