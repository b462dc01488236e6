# What segmentors of two streams have in common: pairs as four channels B,G,R,IR, normalised as ImageNet's (infrared by
# the mean over its colours), and losses with the published weights of MFNet's classes: 1 / log(1.02 + share of the
# pixels) (ENet, Paszke et al. 2016), of all nine, of background and foreground, and of what is no boundary or is one.
normalised_pairs = dict(
    type='SegDataPreProcessor',
    mean=[103.53, 116.28, 123.675, 114.495],
    std=[57.375, 57.12, 58.395, 57.63],
    pad_val=0,
    seg_pad_val=255,
)
loss_classes = dict(
    type='CrossEntropyLoss',
    class_weight=[1.5105, 16.6591, 29.4238, 34.6315, 40.0845, 41.4357, 47.9794, 45.3725, 44.9000],
    avg_non_ignore=True,
)
loss_foreground = dict(type='CrossEntropyLoss', class_weight=[1.5121, 10.2388], avg_non_ignore=True)
loss_boundaries = dict(type='CrossEntropyLoss', class_weight=[1.4459, 23.7228], avg_non_ignore=True)
