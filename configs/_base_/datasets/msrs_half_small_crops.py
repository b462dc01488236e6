# As msrs_half.py in crops of 128x160, for searches.
_base_ = './msrs_half.py'

crop_size = (128, 160)
_base_.train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
