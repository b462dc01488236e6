# MSRS at half resolution, 320x240. The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half.
_base_ = './msrs.py'

scale = (320, 240)
crop_size = (192, 256)
# inverse square roots of the classes' shares of the training pixels, mean 1: unlabeled is 92 % of them
class_weight = [0.08, 0.35, 0.65, 1.14, 0.91, 0.97, 1.83, 1.73, 1.34]

data_root = '{{$PAIF_MM_DATA:data}}/msrs_half'
_base_.train_pipeline[2].update(scale=scale, ratio_range=(0.8, 1.5))
_base_.train_pipeline[3].crop_size = crop_size
train_dataloader = dict(num_workers=1, dataset=dict(data_root=f'{data_root}/train', pipeline=_base_.train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(data_root=f'{data_root}/val'))
test_dataloader = val_dataloader
