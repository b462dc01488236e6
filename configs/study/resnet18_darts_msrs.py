# As resnet18_hds_msrs.py with original DARTS: an unrolled step, and the same loss on both levels.
_base_ = './resnet18_hds_msrs.py'

train_cfg = dict(bilevel='one_step', upper_level='mixed')
