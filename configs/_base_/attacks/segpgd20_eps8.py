# SegPGD (Gu et al., ECCV 2022), segmentation only: twenty steps of .01 at 8/255.
attack = dict(
    type='PGD',
    eps=8 / 255,
    step_size=0.01,
    steps=20,
    random_start=True,
    objective=dict(type='PixelLoss', name='segpgd'),
)
