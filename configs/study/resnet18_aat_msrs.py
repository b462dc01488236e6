# Adaptive Adversarial Training. Meta-initialisation and warm start take about as long as 190 iterations of adversarial
# training, of which 150 are therefore missing at its end: this trains for about as long as resnet18_sat_msrs.py.
_base_ = ['./resnet18_sat_msrs.py', '../_base_/recipes/aat_short.py']

_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 650
custom_hooks = [
    dict(_base_.meta_initialisation, bank='data/banks/study_msrs', crop_size=_base_.crop_size, num_workers=0),
    *_base_.custom_hooks,
]
