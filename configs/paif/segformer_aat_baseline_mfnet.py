# AAT asks nothing of the fusion network: here it trains a plain one of residual blocks with summed features.
_base_ = './segformer_aat_mfnet.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-RB', rule='SUM', depth=3, channels=32)
