"""One new product a task: name -> (a data set of one's own, in one base file own.py; the config that trains on it).

``{base}`` is the folder of the shipped bases.
"""

PRODUCTS = {
    'segformer_sat_own': (
        """
_base_ = '{base}/datasets/mfnet.py'

num_classes = 3
crop_size = (48, 64)
_base_.train_pipeline[3].crop_size = crop_size
data = dict(data_root='data/own', metainfo=dict(classes=('unlabeled', 'car', 'person')))
train_dataloader = dict(dataset=dict(**data, pipeline=_base_.train_pipeline))
val_dataloader = test_dataloader = dict(dataset=data)
""",
        """
_base_ = [
    '{base}/models/segformer_mit-b0.py',
    './own.py',
    '{base}/recipes/general.py',
    '{base}/recipes/sat.py',
    '{base}/schedules/schedule_20k.py',
    '{base}/default_runtime.py',
]
_base_.model.data_preprocessor.task.size = _base_.crop_size
_base_.model.decode_head.num_classes = _base_.num_classes
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
""",
    ),
    'fcos_hds_own': (
        """
_base_ = '{base}/datasets/synthetic_boxes.py'

num_classes = 2
data = dict(data_root='data/own', metainfo=dict(classes=('car', 'person')))
train_dataloader = val_dataloader = test_dataloader = dict(dataset=data)
""",
        """
_base_ = [
    '{base}/models/fcos_light.py',
    './own.py',
    '{base}/recipes/hds_short_detection.py',
    '{base}/detection_runtime_iters.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.bbox_head.num_classes = _base_.num_classes
""",
    ),
    'resnet18_sat_own': (
        """
_base_ = '{base}/datasets/class_folders.py'

train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(data_root='data/own'))
""",
        """
_base_ = [
    '{base}/models/resnet18.py',
    './own.py',
    '{base}/recipes/general_detection.py',
    '{base}/recipes/sat.py',
    '{base}/schedules/schedule_10e.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['paif_mm'])
_base_.model.data_preprocessor.task.num_classes = _base_.model.head.num_classes = _base_.num_classes
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
""",
    ),
}
