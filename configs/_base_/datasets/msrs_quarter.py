# MSRS at half resolution, shown at 160x120, loaded in the main process.
_base_ = './msrs_half.py'

scale = (160, 120)
crop_size = (96, 128)  # never padded: mmseg 1.2.2 cannot weigh classes where labels are ignored

_base_.train_pipeline[2].scale = scale
_base_.train_pipeline[3].crop_size = crop_size
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='Resize', scale=scale, keep_ratio=True),
    *_base_.test_pipeline[1:],  # measured at the labels' own 320x240
]
tta_pipeline = [*test_pipeline[:2], _base_.tta_views]
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**workers, dataset=dict(pipeline=_base_.train_pipeline))
val_dataloader = dict(**workers, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
