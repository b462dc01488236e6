# A folder of RGBA pairs for each class, infrared as fourth channel: data/pairs/{train,val}/CLASS/ID.png
_base_ = '../tta/classification.py'

num_classes = 2
pipeline = [dict(type='paif_mm.LoadPairFromFile'), dict(type='Resize', scale=(96, 128)), dict(type='PackInputs')]
tta_pipeline = [*pipeline[:-1], _base_.tta_views]

data = dict(type='CustomDataset', data_root='data/pairs', pipeline=pipeline)
batches = dict(batch_size=8, num_workers=1)
train_dataloader = dict(
    **batches, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(**data, data_prefix='train')
)
val_dataloader = dict(
    **batches, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(**data, data_prefix='val')
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
