# FCOS to be trained from scratch on a CPU, behind a narrow fusion network: a narrow ResNet-18 and three levels, with
# the variants of FCOS that learn fastest (centre sampling, normalised boxes).
_base_ = './fcos_r50.py'

model = dict(
    data_preprocessor=dict(
        fusion=dict(channels=8),
        task=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    ),
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,  # mmdet's default keeps the statistics of a pretrained backbone
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=3),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32],
        regress_ranges=((-1, 48), (48, 96), (96, 1e8)),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=1.0),
    ),
)
