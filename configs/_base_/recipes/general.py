# 'General' training of the paper (Table 3): clean pairs, L = .1 L_F + 4 L_T.
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=4.0)]
