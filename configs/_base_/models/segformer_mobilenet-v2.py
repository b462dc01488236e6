# As segformer_light.py with MobileNetV2.
_base_ = './segformer_light.py'

_base_.model.backbone = dict(type='MobileNetV2', out_indices=(1, 2, 4, 6), norm_cfg=_base_.model.decode_head.norm_cfg)
_base_.model.decode_head.in_channels = [24, 32, 96, 320]
