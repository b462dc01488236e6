# FGSM (Goodfellow et al. 2015) at 4/255: one full step from the clean pair.
attack = dict(type='PGD', eps=4 / 255, step_size=4 / 255, steps=1, random_start=False)
