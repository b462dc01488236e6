# Adversarial training of SegFormer on the mean of both luminances: no fusion network.
# One modality: --cfg-options model.data_preprocessor.fusion.ir_weight=0.0 (visible) or 1.0 (infrared)
_base_ = '../paif/segformer_sat_mfnet.py'

_base_.model.data_preprocessor.fusion = dict(type='AverageFusion', ir_weight=0.5)
