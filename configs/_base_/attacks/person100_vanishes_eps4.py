# Every person becomes class 0 (in MFNet and MSRS all that has no class, the road too), the rest stays: PGD-100, 4/255.
attack = dict(
    type='PGD',
    eps=4 / 255,
    step_size=0.5 / 255,
    steps=100,
    random_start=False,
    objective=dict(type='Targeted', goals=[dict(source='person', target=0)]),
)
