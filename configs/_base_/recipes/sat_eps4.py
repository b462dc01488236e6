# As sat.py with PGD-5 at 4/255, for detectors: on their own losses.
_base_ = './sat.py'

attack = dict(eps=4 / 255, step_size=1 / 255)
adversarial_training = dict(attack=attack)
