# All of each batch attacked by FGSM with a random start at 8/255, gradients aligned so that it does not collapse.
# To a config of general training, it adds: custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
attack = dict(type='PGD', eps=8 / 255, step_size=10 / 255, steps=1, keep='last')
adversarial_training = dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=1.0, align=0.2)
