# Test-time augmentation of detectors of pairs: the boxes of each pair and of its mirror image, joined. The pair itself
# comes first, as its sample is the one that is measured; another size would forget the scale of the first resizing.
tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
tta_views = dict(
    type='TestTimeAug',
    transforms=[
        [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
        [dict(type='LoadAnnotations', with_bbox=True)],
        [
            dict(
                type='PackDetInputs',
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                    'flip',
                    'flip_direction',
                    'instances',
                ),
            )
        ],
    ],
)
