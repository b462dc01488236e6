# All of each batch attacked by one step, N-FGSM at 8/255, and the watch that goes on with PGD-3 should it collapse.
# To a config of general training, it adds:
# custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training, _base_.overfitting_monitor]
attack = dict(type='NFGSM', eps=8 / 255)
adversarial_training = dict(type='paif_mm.AdversarialAttackHook', attack=attack, ratio=1.0)
overfitting_monitor = dict(
    type='paif_mm.OverfittingMonitorHook',
    attack=dict(type='PGD', eps=8 / 255, steps=10, keep='last'),
    fallback=dict(type='PGD', eps=8 / 255, step_size=4 / 255, steps=3, keep='last'),
)
