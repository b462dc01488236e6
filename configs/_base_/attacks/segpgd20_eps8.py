# SegPGD (Gu et al., ECCV 2022), segmentation only: twenty steps of .01 at 8/255.
_base_ = './cospgd20_eps8.py'

attack = dict(objective=dict(name='segpgd'))
