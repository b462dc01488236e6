# FMB as it is published (Liu et al., ICCV 2023), 800x600: data/fmb/{train,test}/{Visible,Infrared,Label}/ID.png. Zero
# in the label files is nothing, and ignored; to learn it, name it first in classes and set reduce_zero_label=False.
_base_ = './mfnet.py'

crop_size = (600, 800)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(800, 600), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
data = dict(
    type='paif_mm.PairSegDataset',
    data_prefix=dict(img_path='Visible', ir_path='Infrared', seg_map_path='Label'),
    metainfo=dict(
        classes=(
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
        ),
        palette=[
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
        ],
    ),
    reduce_zero_label=True,
)
test_set = dict(_delete_=True, **data, data_root='data/fmb/test', test_mode=True, pipeline={{_base_.test_pipeline}})
train_dataloader = dict(dataset=dict(_delete_=True, **data, data_root='data/fmb/train', pipeline=train_pipeline))
val_dataloader = dict(dataset=test_set)
test_dataloader = dict(dataset=test_set)
