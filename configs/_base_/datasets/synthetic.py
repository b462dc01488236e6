# Synthetic street scenes in MFNet's layout: python tools/make_synthetic.py data/synthetic
_base_ = './mfnet.py'

data_root = 'data/synthetic'
crop_size = (96, 128)
num_workers = 1

train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(128, 96), ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(num_workers=num_workers, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(num_workers=num_workers, dataset=dict(data_root=data_root))
test_dataloader = dict(num_workers=num_workers, dataset=dict(data_root=data_root, ann_file='val.txt'))
