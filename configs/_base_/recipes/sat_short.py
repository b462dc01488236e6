# As sat.py with PGD-3 at 4/255, for trainings of minutes.
_base_ = './sat.py'

attack = dict(eps=4 / 255, step_size=2 / 255, steps=3)
adversarial_training = dict(attack=attack)
