# A stronger attack than the paper's at 4/255: forty steps, the worst of three random starts.
attack = dict(type='PGD', eps=4 / 255, step_size=1 / 255, steps=40, random_start=True, restarts=3)
