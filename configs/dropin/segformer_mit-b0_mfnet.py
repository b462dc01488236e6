_base_ = ['mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py']
custom_imports = dict(imports=['paif_mm'])

# 1. The fusion network goes in front: the preprocessor that the model had becomes its `task`.
model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='paif_mm.FusionDataPreprocessor',
        fusion=dict(type='FusionNet'),
        task={{_base_.data_preprocessor}},
    ),
    decode_head=dict(num_classes=9),
)
data_preprocessor = None  # else --tta puts this one, which fuses nothing, over the model's own

# 2. Pairs instead of images.
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomResize', scale=(640, 480), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size={{_base_.crop_size}}, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (1.0, 0.75, 1.25)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='paif_mm.LoadPairAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
data = dict(_delete_=True, type='paif_mm.MFNetDataset', data_root='data/mfnet')
train_dataloader = dict(dataset=dict(**data, ann_file='train.txt', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**data, ann_file='val.txt', test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader

# 3. Optional: the fusion loss, and adversarial training.
custom_hooks = [
    dict(type='paif_mm.FusionLossHook'),
    dict(type='paif_mm.AdversarialAttackHook', attack=dict(type='PGD', eps=8 / 255, keep='last'), ratio=0.5),
]
