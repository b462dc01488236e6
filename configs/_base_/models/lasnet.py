# LASNet (Li et al., TCSVT 2022) as published: a shared ResNet-152.
_base_ = './two_streams.py'

model = dict(
    type='paif_mm.LASNet',
    data_preprocessor=_base_.normalised_pairs,
    backbone=dict(depth=152),
    decode_head=dict(num_classes=9, loss_decode=[_base_.loss_classes, dict(type='LovaszLoss', reduction='none')]),
    side_losses=dict(
        semantic=_base_.loss_classes,
        saliency=dict(_base_.loss_foreground, loss_weight=0.5),
        boundary=_base_.loss_boundaries,
    ),
)
