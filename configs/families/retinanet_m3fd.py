# mmdet's RetinaNet (R50-FPN) behind the fusion network, on M3FD.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/m3fd.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='paif_mm.FusionDataPreprocessor',
        fusion=dict(type='FusionNet'),
        task={{_base_.model.data_preprocessor}},
    ),
    bbox_head=dict(num_classes=6),
)
default_hooks = dict(visualization=dict(_delete_=True, type='paif_mm.PairVisualizationHook'))
custom_hooks = [dict(type='paif_mm.FusionLossHook', weight=0.1, task_weight=1.0)]
