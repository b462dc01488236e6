# Test-time augmentation of segmentors of pairs: the mean softmax of three sizes, each also flipped. Labels are loaded
# last, so that they stay as they are.
tta_model = dict(type='SegTTAModel')
tta_views = dict(
    type='TestTimeAug',
    transforms=[
        [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (1.0, 0.75, 1.25)],
        [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
        [dict(type='paif_mm.LoadPairAnnotations')],
        [dict(type='PackSegInputs')],
    ],
)
