# MSRS layout: data/msrs/{train,val}/{vi,ir,Segmentation_labels}/ID.{png,jpg}
# MSRS's own test split shares video frames with its train split: use MFNet's block-wise split.
_base_ = './mfnet.py'

data = dict(type='paif_mm.MSRSDataset')
train_set = dict(**data, data_root='data/msrs/train', pipeline=_base_.train_pipeline)
val_set = dict(**data, data_root='data/msrs/val', test_mode=True, pipeline=_base_.test_pipeline)
train_dataloader = dict(dataset=dict(_delete_=True, **train_set))
val_dataloader = dict(dataset=dict(_delete_=True, **val_set))
test_dataloader = val_dataloader
