# PGD-100 at 4/255 from the image itself, on the model's own losses.
attack = dict(type='PGD', eps=4 / 255, step_size=0.5 / 255, steps=100, random_start=False)
