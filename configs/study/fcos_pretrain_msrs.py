# The start of the detection rows of the study: FCOS trained on the plain average of both luminances.
_base_ = '../msrs_half/fcos_general_msrs.py'

max_iters = 1500
model = dict(data_preprocessor=dict(fusion=dict(_delete_=True, type='AverageFusion')))
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
custom_hooks = []
