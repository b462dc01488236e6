# SegFormer's head on mmpretrain's ConvNeXt-Tiny behind the fusion network, on MFNet.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/mfnet.py',
    '../_base_/recipes/general.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
custom_imports = dict(imports=['paif_mm', 'mmpretrain.models'])

_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.backbone = dict(
    type='mmpretrain.ConvNeXt', arch='tiny', out_indices=(0, 1, 2, 3), gap_before_final_norm=False
)
_base_.model.decode_head.in_channels = [96, 192, 384, 768]
