# Standard adversarial training whose first quarter is not attacked.
_base_ = '../paif/segformer_sat_mfnet.py'

_base_.custom_hooks[1].begin = 5000
