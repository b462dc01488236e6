# What PAIF's release runs under the name of LASNet: ResNet-50, and nothing beyond 1/8 of the size.
_base_ = './lasnet_general_mfnet.py'

_base_.model.variant = 'paif'
_base_.model.pop('side_losses')
_base_.model.backbone = dict(depth=50, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'))
