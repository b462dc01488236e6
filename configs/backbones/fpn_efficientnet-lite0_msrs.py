# As segformer_efficientnet-lite0_msrs.py with a semantic FPN (Kirillov et al., CVPR 2019) in place of the all-MLP head.
_base_ = './segformer_efficientnet-lite0_msrs.py'

_base_.model.neck = dict(type='FPN', in_channels=_base_.model.decode_head.in_channels, out_channels=64, num_outs=4)
_base_.model.decode_head.update(type='FPNHead', in_channels=[64] * 4, feature_strides=[4, 8, 16, 32], channels=64)
