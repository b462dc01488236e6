# 'Original' of Table 5: DARTS with its unrolled step, and the same loss, attacked pairs included, on both levels.
_base_ = './segformer_hds_mfnet.py'

train_cfg = dict(bilevel='one_step', upper_level='mixed')
