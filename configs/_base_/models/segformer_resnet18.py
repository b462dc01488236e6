# As segformer_light.py with a narrow ResNet-18 under SegFormer's all-MLP head.
_base_ = './segformer_light.py'

_base_.model.backbone = dict(
    type='ResNetV1c', depth=18, base_channels=32, stem_channels=32, norm_cfg=_base_.model.decode_head.norm_cfg
)
_base_.model.decode_head.in_channels = [32, 64, 128, 256]
