# 'Free' training at 8/255: every batch four times in a row, so that a schedule takes a quarter of the iterations.
# To a config of general training, it adds: custom_hooks = [*_base_.custom_hooks, _base_.adversarial_training]
adversarial_training = dict(type='paif_mm.FreeAdversarialHook', eps=8 / 255, replays=4)
