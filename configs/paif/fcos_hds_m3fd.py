# Harmonized Defence Search (Alg. 1) with FCOS behind the fusion network; the loop counts iterations.
# Writes genotype.json into the work dir; fcos_hds_retrain_sat_m3fd.py trains what it found.
_base_ = [
    '../_base_/models/fcos_r50.py',
    '../_base_/datasets/m3fd.py',
    '../_base_/recipes/hds_detection.py',
    '../_base_/detection_runtime_iters.py',
]
_base_.model.data_preprocessor.fusion = _base_.supernet
_base_.model.bbox_head.num_classes = _base_.num_classes
_base_.default_hooks.checkpoint.interval = 1000
