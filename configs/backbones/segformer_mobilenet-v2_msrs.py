# The pretraining of msrs_half by the cross-entropy of pixels alone.
_base_ = '../msrs_half/segformer_pretrain_msrs.py'

_base_.model.decode_head.loss_decode = _base_.model.decode_head.loss_decode[0]
