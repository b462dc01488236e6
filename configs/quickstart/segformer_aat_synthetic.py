# Adaptive Adversarial Training in minutes on two CPU cores (make aat).
_base_ = ['./segformer_sat_synthetic.py', '../_base_/recipes/aat_short.py']

custom_hooks = [
    dict(_base_.meta_initialisation, bank='data/banks/synthetic', iters=40, warm_start_iters=20),
    *_base_.custom_hooks,
]
