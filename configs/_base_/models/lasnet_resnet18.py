# As lasnet.py on ResNet-18 of half the width, to be trained from scratch on a CPU.
_base_ = './lasnet.py'

_base_.model.backbone = dict(depth=18, base_channels=32, stem_channels=32)
