# Test-time augmentation of segmentors of pairs: three sizes, each also flipped.
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='paif_mm.LoadPairFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale_factor=factor, keep_ratio=True) for factor in (0.75, 1.0, 1.25)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='paif_mm.LoadPairAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
