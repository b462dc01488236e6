# mmdet's Faster R-CNN (R50-FPN) behind the fusion network, on M3FD.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/m3fd.py',
    '../_base_/recipes/general_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/detection_runtime.py',
]
_base_.model.roi_head.bbox_head.num_classes = _base_.num_classes
_base_.model.data_preprocessor = dict(
    type='paif_mm.FusionDataPreprocessor', fusion=dict(type='FusionNet'), task=_base_.model.data_preprocessor
)
_base_.auto_scale_lr.base_batch_size = 4
