# LLVIP as it is published (Jia et al., ICCV workshops 2021): data/llvip/{visible,infrared}/{train,test}/ID.jpg and
# Annotations/ID.xml of both splits, 1280x1024. Attacks change the pixels that the network sees, after any resizing.
_base_ = './m3fd.py'

scale = (1280, 1024)
train_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
tta_pipeline = [*test_pipeline[:2], {{_base_.tta_views}}]
data = dict(
    _delete_=True,
    type='paif_mm.PairVOCDataset',
    data_root='data/llvip',
    metainfo=dict(classes=('person',), palette=[[220, 20, 60]]),
    clip_boxes=True,
)
train_dataloader = dict(
    dataset=dict(
        **data,
        data_prefix=dict(img_path='visible/train', ir_path='infrared/train', xml_path='Annotations'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        **data,
        data_prefix=dict(img_path='visible/test', ir_path='infrared/test', xml_path='Annotations'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
