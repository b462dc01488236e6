# The fused image stays clean to the eye (SSIM of at least .95) while the segmentation fails: PGD-100 at 4/255.
attack = dict(
    type='PGD',
    eps=4 / 255,
    step_size=0.5 / 255,
    steps=100,
    random_start=False,
    objective=dict(type='HiddenInFused', ssim=0.95, objective=dict(type='PixelLoss', name='balanced_cross_entropy')),
)
