# Synthetic street scenes with boxes in COCO's format: python tools/make_synthetic.py data/synthetic
_base_ = './msrs_half_boxes.py'

scale = (128, 96)

_base_.train_pipeline[2].update(scale=scale, ratio_range=(1.0, 1.5))
_base_.train_pipeline[3].crop_size = (96, 128)
_base_.test_pipeline[1].scale = scale
tta_pipeline = [*_base_.test_pipeline[:2], _base_.tta_views]
files = dict(data_root='data/synthetic', data_prefix=dict(_delete_=True, img='images'))
train_dataloader = dict(dataset=dict(**files, pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(**files, pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
