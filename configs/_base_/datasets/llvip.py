# LLVIP as it is published (Jia et al., ICCV workshops 2021), 1280x1024: data/llvip/{visible,infrared}/{train,test}/
# ID.jpg, and Annotations/ID.xml of both splits.
_base_ = './m3fd.py'

num_classes = 1
scale = (1280, 1024)  # attacks change the pixels that the network sees, after any resizing

_base_.train_pipeline[2].scale = _base_.test_pipeline[1].scale = scale
tta_pipeline = [*_base_.test_pipeline[:2], _base_.tta_views]
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
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **data,
        data_prefix=dict(img_path='visible/test', ir_path='infrared/test', xml_path='Annotations'),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
