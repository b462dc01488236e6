# Adaptive Adversarial Training for detection: the same hook as for segmentation, on a bank crafted on a detector.
_base_ = ['./fcos_sat_m3fd.py', '../_base_/recipes/aat.py']

custom_hooks = [dict(_base_.meta_initialisation, bank='data/banks/m3fd', crop_size=(240, 320)), *_base_.custom_hooks]
