# As segformer_pretrain_msrs.py with a narrow ResNet-18 under SegFormer's all-MLP head.
_base_ = './segformer_pretrain_msrs.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNetV1c',
        depth=18,
        base_channels=32,
        stem_channels=32,
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(in_channels=[32, 64, 128, 256]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
