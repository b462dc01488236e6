# The paper's attack at 4/255: PGD with five steps of eps / 4 from a random start, both modalities at once.
attack = dict(type='PGD', eps=4 / 255, step_size=4 / 255 / 4, steps=5, random_start=True)
