# Harmonized Defence Search with FCOS behind the fusion network, on synthetic scenes.
_base_ = [
    '../_base_/models/fcos_mini.py',
    '../_base_/datasets/synthetic_boxes.py',
    '../_base_/recipes/hds_short_detection.py',
    '../_base_/detection_runtime_iters.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.bbox_head.num_classes = _base_.num_classes
