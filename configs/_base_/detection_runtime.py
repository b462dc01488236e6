# mmdet's runtime, with exact resuming and strips of pairs.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['paif_mm'])
randomness = dict(seed=0)
default_hooks = dict(
    checkpoint=dict(type='paif_mm.ResumableCheckpointHook', max_keep_ckpts=2),
    visualization=dict(_delete_=True, type='paif_mm.PairVisualizationHook'),
)
