# Adaptive Adversarial Training on MSRS at half resolution.
_base_ = ['./segformer_sat_msrs.py', '../_base_/recipes/aat_short.py']

custom_hooks = [
    dict(
        _base_.meta_initialisation,
        bank='data/banks/msrs_half',
        crop_size=(128, 160),
        iters=100,
        inner_steps=5,
        warm_start_iters=50,
    ),
    *_base_.custom_hooks,
]
