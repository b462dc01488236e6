# Normal training of the searched network and the pretrained FCOS.
_base_ = './fcos_pretrain_msrs.py'

max_iters = 300
model = dict(data_preprocessor=dict(fusion=dict(_delete_=True, type='FusionNet', genotype='paif', channels=8)))
load_from = 'work_dirs/fcos_pretrain_msrs/iter_1500.pth'

optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0)]
