"""One new product a task: name -> (a data set of one's own, in one base file own.py; the config that trains on it).

``configs/_base_`` is the folder of the shipped bases. The segmentor's is what docs/configs.md shows.
"""

import re

from conftest import REPO

PAGE = (REPO / 'docs' / 'configs.md').read_text().split('## How the configs are put together')[1]

PRODUCTS = {
    'segformer_sat_own': tuple(re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)[:2]),
    'fcos_hds_own': (
        """
_base_ = 'configs/_base_/datasets/synthetic_boxes.py'

num_classes = 2
data = dict(data_root='data/own', metainfo=dict(classes=('car', 'person')))
train_dataloader = val_dataloader = test_dataloader = dict(dataset=data)
""",
        """
_base_ = [
    'configs/_base_/models/fcos_light.py',
    './own.py',
    'configs/_base_/recipes/hds_short_detection.py',
    'configs/_base_/detection_runtime_iters.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.bbox_head.num_classes = _base_.num_classes
""",
    ),
    'resnet18_sat_own': (
        """
_base_ = 'configs/_base_/datasets/class_folders.py'

train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(data_root='data/own'))
""",
        """
_base_ = [
    'configs/_base_/models/resnet18.py',
    './own.py',
    'configs/_base_/recipes/general_detection.py',
    'configs/_base_/recipes/sat.py',
    'configs/_base_/schedules/schedule_10e.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['paif_mm'])
_base_.model.data_preprocessor.task.num_classes = _base_.model.head.num_classes = _base_.num_classes
custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
""",
    ),
}
