# What PAIF's release runs under the name of GMNet: ResNet-50, and nothing beyond 1/8 of the size.
_base_ = './gmnet_general_mfnet.py'

_base_.model.variant = 'paif'
_base_.model.pop('side_losses')
