# All of each batch attacked by one step of at most 8/255, no longer than it takes to flip the image's pixels.
# To a config of general training, it adds: custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
attack = dict(type='StepControlFGSM', eps=8 / 255)
adversarial_training = dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=1.0)
