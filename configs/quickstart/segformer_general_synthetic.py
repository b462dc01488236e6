# A small SegFormer on synthetic street scenes, sized for a few minutes on two CPU cores (make demo).
_base_ = [
    '../_base_/models/segformer_mit-b0.py',
    '../_base_/datasets/synthetic.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
max_iters = 400
warmup_iters = 50
lr = 2e-3  # from scratch, small network
fusion_channels = 8
embed_dims = 16

model = dict(
    data_preprocessor=dict(fusion=dict(channels=fusion_channels), task=dict(size={{_base_.crop_size}})),
    backbone=dict(embed_dims=embed_dims, num_layers=[1, 1, 1, 1], drop_path_rate=0.0),
    decode_head=dict(
        in_channels=[embed_dims, 2 * embed_dims, 5 * embed_dims, 8 * embed_dims],
        channels=64,
        dropout_ratio=0.0,
        # inverse square roots of the classes' shares of the pixels, mean 1: unlabeled is 79 % of them
        loss_decode=dict(class_weight=[0.13, 0.34, 0.66, 0.92, 1.0, 1.75, 1.42, 1.44, 1.32]),
    ),
)
train_dataloader = dict(batch_size=4)

optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=100))
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0)]
