# SegFormer's head on mmpretrain's ConvNeXt-Tiny behind the fusion network, on MFNet.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/mfnet.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
custom_imports = dict(imports=['paif_mm', 'mmpretrain.models'])
model = dict(
    data_preprocessor=dict(task=dict(size={{_base_.crop_size}})),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
)
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0)]
