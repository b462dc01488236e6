# A moving average of the weights over about 2000 iterations, batch-norm statistics included: what is validated and
# saved. To any recipe, it adds: custom_hooks = [_base_.moving_average, *_base_.custom_hooks, ...]
moving_average = dict(type='EMAHook', momentum=0.0005, update_buffers=True)
