# As general.py for detectors and classifiers, whose own losses count as they are.
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0)]
