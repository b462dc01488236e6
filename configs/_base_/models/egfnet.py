# EGFNet (Zhou et al., AAAI 2022) as published: a shared ResNet-152, and edges of the pair.
_base_ = './two_streams.py'

model = dict(
    type='paif_mm.EGFNet',
    data_preprocessor=_base_.normalised_pairs,
    backbone=dict(depth=152),
    decode_head=dict(num_classes=9, loss_decode=_base_.loss_classes),
    side_losses=dict(
        semantic=_base_.loss_classes,
        boundary3=_base_.loss_boundaries,
        boundary2=_base_.loss_boundaries,
        boundary1=_base_.loss_boundaries,
    ),
)
