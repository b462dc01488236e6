# As segformer_mobilenet-v2.py, trained by the cross-entropy of pixels and by the Lovasz surrogate of IoU (Berman et
# al., CVPR 2018), in which rare classes count. Weights of classes: those of decode_head.loss_decode[0].
_base_ = './segformer_mobilenet-v2.py'

_base_.model.decode_head.loss_decode = [
    _base_.model.decode_head.loss_decode,
    dict(type='LovaszLoss', reduction='none', loss_weight=0.5),
]
