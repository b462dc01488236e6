# Standard adversarial training of the paper (Table 3): half of each batch attacked by PGD-5 at 8/255.
# To a config of general training, it adds: custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
# The last iterate, as in the paper: keeping the worst would cost one more forward pass per batch.
attack = dict(type='PGD', eps=8 / 255, step_size=2 / 255, steps=5, random_start=True, keep='last')
adversarial_training = dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=0.5, phases=('train',))
