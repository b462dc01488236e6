# Normal training of the pretrained T on the mean of both luminances: no fusion network.
# Visible images alone: --cfg-options model.data_preprocessor.fusion.ir_weight=0.0
# Infrared images alone: --cfg-options model.data_preprocessor.fusion.ir_weight=1.0 model.data_preprocessor.grey=True
_base_ = './resnet18_general_msrs.py'

_base_.model.data_preprocessor.fusion = dict(type='AverageFusion', ir_weight=0.5)
