# As segformer_hds_synthetic.py with original DARTS: an unrolled step, and the same loss on both levels.
_base_ = './segformer_hds_synthetic.py'

train_cfg = dict(bilevel='one_step', upper_level='mixed')
