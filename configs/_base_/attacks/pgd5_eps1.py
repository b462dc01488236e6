# The paper's attack at 1/255: PGD with five steps of eps / 4 from a random start, both modalities at once.
attack = dict(type='PGD', eps=1 / 255, step_size=1 / 255 / 4, steps=5, random_start=True)
