# The paper's attack at 8/255: PGD with five steps of eps / 4 from a random start, both modalities at once.
attack = dict(type='PGD', eps=8 / 255, step_size=8 / 255 / 4, steps=5, random_start=True)
