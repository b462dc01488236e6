# GMNet (Zhou et al., TIP 2021) as published: a ResNet-50 for each modality.
_base_ = './two_streams.py'

model = dict(
    type='paif_mm.GMNet',
    data_preprocessor=_base_.normalised_pairs,
    backbone=dict(depth=50),
    decode_head=dict(num_classes=9, loss_decode=_base_.loss_classes),
    side_losses=dict(foreground=_base_.loss_foreground, boundary=_base_.loss_boundaries),
)
