# FLIR-aligned as it is published (Zhang et al., ICIP 2020), 640x512: data/flir_aligned/JPEGImages/ID_RGB.jpg and
# ID_PreviewData.jpeg, Annotations/ID_PreviewData.xml, lists align_train.txt and align_validation.txt. Its few dogs are
# left out.
_base_ = './m3fd.py'

scale = (640, 512)
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
    data_root='data/flir_aligned',
    data_prefix=dict(img_path='JPEGImages', ir_path='JPEGImages', xml_path='Annotations'),
    names=dict(img_path='*_RGB', ir_path='*_PreviewData', xml_path='*_PreviewData'),
    metainfo=dict(classes=('person', 'car', 'bicycle'), palette=[[220, 20, 60], [0, 80, 200], [190, 120, 0]]),
    others=dict(dog=None),
    clip_boxes=True,
)
train_dataloader = dict(
    dataset=dict(**data, ann_file='align_train.txt', filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(**data, ann_file='align_validation.txt', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
