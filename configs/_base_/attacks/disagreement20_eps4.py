# PGD-20 at 4/255 that makes infrared and visible tell the segmentor different things.
attack = dict(type='PGD', eps=4 / 255, step_size=1 / 255, steps=20, objective=dict(type='Disagreement'))
