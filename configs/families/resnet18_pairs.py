# mmpretrain's ResNet-18 as a classifier of pairs, e.g. day against night.
_base_ = [
    '../_base_/models/resnet18.py',
    '../_base_/datasets/class_folders.py',
    '../_base_/recipes/general_detection.py',
    '../_base_/schedules/schedule_10e.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['paif_mm'])

_base_.model.data_preprocessor.task.num_classes = _base_.model.head.num_classes = _base_.num_classes
