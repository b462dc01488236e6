# Harmonized Defence Search (Alg. 1): finds the fusion network's operations, with SegFormer MiT-B0 behind it.
# Writes genotype.json into the work dir; segformer_hds_retrain_sat_mfnet.py trains what it found.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/mfnet.py',
    '../_base_/recipes/hds.py',
    '../_base_/default_runtime.py',
]
# ImageNet weights of mmseg; offline: --cfg-options model.backbone.init_cfg=None
checkpoint = 'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b0_20220624-7e0fe6dd.pth'

_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
