# PST900 as it is published (Shivakumar et al., ICRA 2020), 1280x720: data/pst900/{train,test}/{rgb,thermal,labels}/
# ID.png. The folders depth and thermal_raw beside them are not read; to take thermal_raw, of 16 bits, for infrared,
# declare ir_range=(low, high) in LoadPairFromFile.
_base_ = './mfnet.py'

crop_size = (480, 640)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(1280, 720), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
data = dict(
    type='paif_mm.PairSegDataset',
    data_prefix=dict(img_path='rgb', ir_path='thermal', seg_map_path='labels'),
    metainfo=dict(
        classes=('background', 'fire_extinguisher', 'backpack', 'hand_drill', 'survivor'),
        palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]],
    ),
)
test_set = dict(_delete_=True, **data, data_root='data/pst900/test', test_mode=True, pipeline={{_base_.test_pipeline}})
train_dataloader = dict(dataset=dict(_delete_=True, **data, data_root='data/pst900/train', pipeline=train_pipeline))
val_dataloader = dict(dataset=test_set)
test_dataloader = dict(dataset=test_set)
