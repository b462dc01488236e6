# RoadScene as it is published (Xu et al., AAAI 2020), 221 pairs of many sizes and without labels:
# data/roadscene/{crop_LR_visible,cropinfrared}/ID.jpg. To fuse and to predict; trained and validated on MFNet.
_base_ = './mfnet.py'

unlabelled = dict(
    _delete_=True,
    type='paif_mm.MSRSDataset',  # for its classes, MFNet's
    data_root='data/roadscene',
    data_prefix=dict(img_path='crop_LR_visible', ir_path='cropinfrared', seg_map_path=None),
    test_mode=True,
    pipeline=_base_.test_pipeline,
)
test_dataloader = dict(dataset=unlabelled)
test_evaluator = dict(format_only=True)
