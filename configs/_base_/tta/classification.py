# Test-time augmentation of classifiers of pairs: the mean score of each pair and of its mirror image.
tta_model = dict(type='AverageClsScoreTTA')
tta_views = dict(
    type='TestTimeAug',
    transforms=[[dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)], [dict(type='PackInputs')]],
)
