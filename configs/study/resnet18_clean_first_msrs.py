# Standard adversarial training whose first quarter is not attacked.
_base_ = './resnet18_sat_msrs.py'

_base_.custom_hooks[1].begin = 200
