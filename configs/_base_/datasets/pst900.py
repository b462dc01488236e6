# PST900 as it is published (Shivakumar et al., ICRA 2020), 1280x720: data/pst900/{train,test}/{rgb,thermal,labels}/
# ID.png. The folders depth and thermal_raw beside them are not read; to take thermal_raw, of 16 bits, for infrared,
# declare ir_range=(low, high) in LoadPairFromFile.
_base_ = './mfnet.py'

classes = ('background', 'fire_extinguisher', 'backpack', 'hand_drill', 'survivor')
palette = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
num_classes = len(classes)

_base_.train_pipeline[2].scale = (1280, 720)
_base_.train_pipeline[3].cat_max_ratio = 1.0  # most crops are background alone
files = dict(
    _delete_=True,
    type='paif_mm.PairSegDataset',
    data_prefix=dict(img_path='rgb', ir_path='thermal', seg_map_path='labels'),
    metainfo=dict(classes=classes, palette=palette),
)
train_dataloader = dict(dataset=dict(**files, data_root='data/pst900/train', pipeline=_base_.train_pipeline))
val_dataloader = dict(
    dataset=dict(**files, data_root='data/pst900/test', test_mode=True, pipeline=_base_.test_pipeline)
)
test_dataloader = val_dataloader
