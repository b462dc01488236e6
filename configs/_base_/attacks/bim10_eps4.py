# BIM (Kurakin et al. 2017) at 4/255: ten small steps from the clean pair.
attack = dict(type='PGD', eps=4 / 255, step_size=1 / 255, steps=10, random_start=False)
