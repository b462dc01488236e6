# Harmonized Defence Search (Alg. 1): finds the fusion network's operations, with SegFormer MiT-B0 behind it.
# Writes genotype.json into the work dir; segformer_hds_retrain_sat_mfnet.py trains what it found.
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/mfnet.py',
    '../_base_/schedules/schedule_hds_100k.py',
    '../_base_/default_runtime.py',
]
# ImageNet weights of mmseg; offline: --cfg-options model.backbone.init_cfg=None
checkpoint = 'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b0_20220624-7e0fe6dd.pth'

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionSupernet', candidates=['3-DC', '7-RB', '3-DB', 'CA'], channels=32),
        task=dict(size={{_base_.crop_size}}),
    ),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint)),
)
# A quarter of each batch is attacked, once the warm start is over; architecture steps see clean pairs.
attack = dict(type='PGD', eps=2 / 255, step_size=2 / 255 / 4, steps=3, random_start=True, keep='last')
custom_hooks = [
    dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0),
    dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.25, begin={{_base_.warmup_iters}}),
]
