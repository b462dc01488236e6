# FCOS on MSRS at half resolution (320x240; persons, bicycles, cars), from scratch and light enough for a CPU.
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half.
_base_ = [
    '../_base_/models/fcos_light.py',
    '../_base_/datasets/msrs_half_boxes.py',
    '../_base_/recipes/general_detection.py',
    '../_base_/schedules/schedule_2k_detection.py',
    '../_base_/detection_runtime_iters.py',
]
_base_.model.bbox_head.num_classes = _base_.num_classes
