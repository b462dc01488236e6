# Adaptive Adversarial Training for detection.
_base_ = ['./fcos_sat_synthetic.py', '../_base_/recipes/aat_short.py']

custom_hooks = [dict(_base_.meta_initialisation, bank='data/banks/synthetic_boxes'), *_base_.custom_hooks]
