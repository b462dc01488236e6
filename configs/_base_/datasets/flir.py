# FLIR-aligned as it is published (Zhang et al., ICIP 2020), 640x512: data/flir_aligned/JPEGImages/ID_RGB.jpg and
# ID_PreviewData.jpeg, Annotations/ID_PreviewData.xml, lists align_train.txt and align_validation.txt. Its few dogs are
# left out.
_base_ = './m3fd.py'

num_classes = 3
scale = (640, 512)  # attacks change the pixels that the network sees, after any resizing

_base_.train_pipeline[2].scale = _base_.test_pipeline[1].scale = scale
tta_pipeline = [*_base_.test_pipeline[:2], _base_.tta_views]
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
train_set = dict(**data, ann_file='align_train.txt', filter_cfg=dict(filter_empty_gt=True))
train_dataloader = dict(dataset=dict(**train_set, pipeline=_base_.train_pipeline))
val_set = dict(**data, ann_file='align_validation.txt', test_mode=True)
val_dataloader = dict(dataset=dict(**val_set, pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
