# Adaptive Adversarial Training (Alg. 2): meta-initialise the fusion network on an attack bank, warm start, then SAT.
_base_ = ['./segformer_sat_mfnet.py', '../_base_/recipes/aat.py']

custom_hooks = [dict(_base_.meta_initialisation, bank='data/banks/mfnet', crop_size=(240, 320)), *_base_.custom_hooks]
