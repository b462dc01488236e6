# All of each batch attacked by PGD-3 at 8/255, a radius that grows over the first tenth of 20k iterations.
# To a config of general training, it adds: custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
attack = dict(type='PGD', eps=8 / 255, step_size=4 / 255, steps=3, keep='last')
adversarial_training = dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=1.0, ramp=dict(eps=2000))
