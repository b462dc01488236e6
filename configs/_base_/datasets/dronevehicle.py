# DroneVehicle as it is published (Sun et al., TCSVT 2022): data/dronevehicle/train/{trainimg,trainimgr}/ID.jpg and
# trainlabelr/ID.xml, also val and test. Both images have a white border of 100 pixels, 840x712, which is cut off. Boxes
# are those of infrared, where more is seen than in trainlabel; they enclose the turned ones.
_base_ = './flir.py'  # of the same size

num_classes = 5

data = dict(
    _delete_=True,
    type='paif_mm.PairVOCDataset',
    data_root='data/dronevehicle',
    metainfo=dict(
        classes=('car', 'truck', 'bus', 'van', 'freight car'),
        palette=[[0, 80, 200], [120, 60, 170], [0, 170, 170], [230, 200, 0], [190, 120, 0]],
    ),
    aliases={'feright car': 'freight car', 'feright_car': 'freight car', 'feright': 'freight car', 'truvk': 'truck'},
    others={'*': None},
    border=100,
    clip_boxes=True,
)
train_dataloader = dict(
    dataset=dict(
        **data,
        data_prefix=dict(img_path='train/trainimg', ir_path='train/trainimgr', xml_path='train/trainlabelr'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        **data,
        data_prefix=dict(img_path='val/valimg', ir_path='val/valimgr', xml_path='val/vallabelr'),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_folders = dict(img_path='test/testimg', ir_path='test/testimgr', xml_path='test/testlabelr')
test_dataloader = dict(dataset=dict(**data, data_prefix=test_folders, test_mode=True, pipeline=_base_.test_pipeline))
