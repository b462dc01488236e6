# Synthetic street scenes in MFNet's layout: python tools/make_synthetic.py data/synthetic
_base_ = './mfnet.py'

crop_size = (96, 128)
# inverse square roots of the classes' shares of the pixels, mean 1: unlabeled is 79 % of them
class_weight = [0.13, 0.34, 0.66, 0.92, 1.0, 1.75, 1.42, 1.44, 1.32]

_base_.train_pipeline[2].update(scale=(128, 96), ratio_range=(1.0, 1.5))
_base_.train_pipeline[3].crop_size = crop_size
data = dict(data_root='data/synthetic')
train_dataloader = dict(num_workers=1, dataset=dict(**data, pipeline=_base_.train_pipeline))
val_dataloader = dict(num_workers=1, dataset=data)
test_dataloader = dict(num_workers=1, dataset=dict(**data, ann_file='val.txt'))
