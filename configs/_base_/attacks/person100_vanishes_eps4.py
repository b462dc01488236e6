# Every person becomes class 0 (in MFNet and MSRS all that has no class, the road too), the rest stays: PGD-100, 4/255.
_base_ = './pgd100_eps4.py'

attack = dict(objective=dict(type='Targeted', goals=[dict(source='person', target=0)]))
