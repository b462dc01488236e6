# MSRS layout: data/msrs/{train,val}/{vi,ir,Segmentation_labels}/ID.{png,jpg}
# MSRS's own test split shares video frames with its train split: use MFNet's block-wise split.
_base_ = './mfnet.py'

dataset_type = 'paif_mm.MSRSDataset'
data_root = 'data/msrs'

train_set = dict(type=dataset_type, data_root=f'{data_root}/train', pipeline={{_base_.train_pipeline}})
val_set = dict(type=dataset_type, data_root=f'{data_root}/val', test_mode=True, pipeline={{_base_.test_pipeline}})
train_dataloader = dict(dataset=dict(_delete_=True, **train_set))
val_dataloader = dict(dataset=dict(_delete_=True, **val_set))
test_dataloader = dict(dataset=dict(_delete_=True, **val_set))
