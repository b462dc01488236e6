# The fused image stays clean to the eye (SSIM of at least .95) while the segmentation fails: PGD-100 at 4/255.
_base_ = './pgd100_eps4.py'

attack = dict(
    objective=dict(type='HiddenInFused', ssim=0.95, objective=dict(type='PixelLoss', name='balanced_cross_entropy'))
)
