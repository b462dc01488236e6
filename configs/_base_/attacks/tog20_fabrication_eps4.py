# TOG-fabrication (Chow et al. 2020), detection only: PGD-20 at 4/255.
attack = dict(type='PGD', eps=4 / 255, step_size=1 / 255, steps=20, objective=dict(type='TOG', aim='fabrication'))
