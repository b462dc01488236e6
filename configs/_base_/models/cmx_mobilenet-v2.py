# CMX (Zhang et al., T-ITS 2023) on two MobileNetV2, under SegFormer's head.
_base_ = ['./segformer_mobilenet-v2.py', './two_streams.py']

_base_.model.data_preprocessor = _base_.normalised_pairs
_base_.model.backbone = dict(type='paif_mm.CMX', stream=_base_.model.backbone, num_heads=[1, 2, 4, 8])
