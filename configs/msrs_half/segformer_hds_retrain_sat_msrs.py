# Standard adversarial training of the network that segformer_hds_msrs.py found, at the size of that search.
# Another genotype: --cfg-options model.data_preprocessor.fusion.genotype=PATH (or paif, all-3-DC, all-CA, ...)
_base_ = './segformer_sat_msrs.py'

crop_size = (128, 160)
max_iters = 600

model = dict(
    data_preprocessor=dict(
        fusion=dict(genotype='work_dirs/segformer_hds_msrs/genotype.json'),
        task=dict(size=crop_size),
    )
)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.8, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='paif_mm.VisibleOnly', transforms=[dict(type='PhotoMetricDistortion')]),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
