# Adaptive Adversarial Training for detection.
_base_ = ['./fcos_sat_msrs.py', '../_base_/recipes/aat_short.py']

custom_hooks = [
    dict(_base_.meta_initialisation, bank='data/banks/msrs_boxes', crop_size=(128, 160)),
    *_base_.custom_hooks,
]
