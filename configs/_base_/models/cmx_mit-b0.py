# CMX (Zhang et al., T-ITS 2023) on two MiT-B0, under SegFormer's head.
_base_ = ['./segformer_mit-b0.py', './two_streams.py']

_base_.model.data_preprocessor = _base_.normalised_pairs
_base_.model.backbone = dict(type='paif_mm.CMX', stream=_base_.model.backbone)
