# FMB as it is published (Liu et al., ICCV 2023), 800x600: data/fmb/{train,test}/{Visible,Infrared,Label}/ID.png. Zero
# in the label files is nothing, and ignored; to learn it, name it first in classes and set reduce_zero_label=False.
_base_ = './mfnet.py'

classes = (
    'Road',
    'Sidewalk',
    'Building',
    'Lamp',
    'Sign',
    'Vegetation',
    'Sky',
    'Person',
    'Car',
    'Truck',
    'Bus',
    'Motorcycle',
    'Bicycle',
    'Pole',
)
palette = [
    [228, 228, 179],
    [133, 57, 181],
    [177, 162, 67],
    [50, 178, 200],
    [199, 45, 132],
    [84, 172, 66],
    [79, 73, 179],
    [166, 99, 76],
    [253, 121, 66],
    [91, 165, 137],
    [152, 97, 155],
    [140, 153, 105],
    [158, 215, 222],
    [90, 113, 135],
]
num_classes = len(classes)
crop_size = (600, 800)

_base_.train_pipeline[2].scale = (800, 600)
_base_.train_pipeline[3].crop_size = crop_size
files = dict(
    _delete_=True,
    type='paif_mm.PairSegDataset',
    data_prefix=dict(img_path='Visible', ir_path='Infrared', seg_map_path='Label'),
    metainfo=dict(classes=classes, palette=palette),
    reduce_zero_label=True,
)
train_dataloader = dict(dataset=dict(**files, data_root='data/fmb/train', pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(**files, data_root='data/fmb/test', test_mode=True, pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
