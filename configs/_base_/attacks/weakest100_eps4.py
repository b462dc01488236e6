# One modality of each pair at 4/255, the one where it does more harm, pulling the fusion network towards itself.
attack = dict(
    type='WeakestModality',
    eps=4 / 255,
    steps=100,
    large_radii=True,
    objective=dict(type='PixelLoss', name='jensen_shannon'),
)
