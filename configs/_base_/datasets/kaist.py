# KAIST as it is published (Hwang et al., CVPR 2015), 640x512: data/kaist/images/set00/V000/{visible,lwir}/I00001.jpg,
# annotations-xml-new/set00/V000/I00001.xml, for training those that were sanitized (Li et al., BMVC 2018), and lists of
# frames, imageSets/train-all-02.txt and test-all-20.txt. Annotations as text: docs/datasets.md. The size is FLIR's.
_base_ = './flir.py'

num_classes = 1

data = dict(
    _delete_=True,
    type='paif_mm.PairVOCDataset',
    data_root='data/kaist',
    names=dict(img_path='*/*/visible/*', ir_path='*/*/lwir/*', xml_path='*/*/*'),
    metainfo=dict(classes=('person',), palette=[[220, 20, 60]]),
    # neither to be found nor wrong where found, as in the benchmark
    others={'people': 'person', 'cyclist': 'person', 'person?': 'person', 'person?a': 'person'},
    clip_boxes=True,
)
train_dataloader = dict(
    dataset=dict(
        **data,
        ann_file='imageSets/train-all-02.txt',
        data_prefix=dict(img_path='images', ir_path='images', xml_path='annotations-xml-new-sanitized'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **data,
        ann_file='imageSets/test-all-20.txt',
        data_prefix=dict(img_path='images', ir_path='images', xml_path='annotations-xml-new'),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
