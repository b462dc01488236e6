"""Rules that make any shipped config run in seconds. They set sizes, counts and paths, and replace no part."""

from mmengine.config import Config

from paif_mm.fusion import NETWORKS

SCALE, CROP = (96, 64), (48, 64)  # (width, height) and (height, width), as the transforms write them
WIDTH = 64  # of heads and necks: two channels for each of 32 groups, so that maps of one pixel can be normalised
STAGES = {
    'MixVisionTransformer': [8, 16, 40, 64],
    'ConvNeXt': [8, 16, 24, 32],
    'MobileNetV2': {1: 8, 2: 8, 4: 24, 6: 80},  # of a quarter of its width
    'TIMMBackbone': [24, 40, 112, 320],  # of EfficientNet-Lite0, which has no other width
}


def shrink(config: Config) -> Config:
    """The config in place: tiny networks and images, two training iterations, one image to test."""
    _model(config.model)
    for phase in ('train', 'val', 'test'):
        loader = config[f'{phase}_dataloader']
        loader.num_workers, loader.persistent_workers = 0, False
        _pipeline(loader.dataset.pipeline)
    _pipeline(config.tta_pipeline)
    config.train_dataloader.batch_size = 2
    config.train_dataloader.dataset.indices = 4
    config.test_dataloader.dataset.indices = 1
    _loop(config.train_cfg)
    for hook in config.get('custom_hooks', ()):
        _hook(hook)
    config.default_hooks.logger.interval = 1
    return config


def _model(model: dict) -> None:
    preprocessor, backbone = model.data_preprocessor, model.backbone
    if 'fusion' in preprocessor:
        if preprocessor.fusion.type not in ('AverageFusion', *NETWORKS):  # which have one width
            preprocessor.fusion.channels = 4
        preprocessor = preprocessor.task
    if preprocessor.get('size') is not None:
        preprocessor.size = CROP
    if model.type.startswith('paif_mm.'):  # of two streams: its parts follow from these
        backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
        model.channels = {'LASNet': [8] * 5, 'EGFNet': 8, 'GMNet': 16}[model.type.split('.')[-1]]
        return
    backbone = backbone.get('stream', backbone)
    backbone.init_cfg = None
    kind = backbone.type.split('.')[-1]
    if kind == 'MixVisionTransformer':
        backbone.update(embed_dims=8, num_layers=[1, 1, 1, 1])
    elif kind == 'ConvNeXt':
        backbone.arch = {'depths': [1, 1, 1, 1], 'channels': STAGES[kind]}
    elif kind == 'MobileNetV2':
        backbone.widen_factor = 0.25
    elif kind != 'TIMMBackbone':
        backbone.update(depth=18, base_channels=8)
        if backbone.get('stem_channels') or kind == 'ResNetV1c':
            backbone.stem_channels = 8
    stages = STAGES.get(kind, [8, 16, 32, 64])
    if isinstance(stages, dict):
        stages = [stages[index] for index in backbone.out_indices]
    if 'decode_head' in model:
        model.decode_head.update(in_channels=stages, channels=16)
    if 'head' in model:
        model.head.in_channels = stages[-1]
    if model.get('neck', {}).get('type') == 'FPN':
        model.neck.update(in_channels=stages[: len(model.neck.in_channels)], out_channels=WIDTH)
        if 'decode_head' in model:
            model.decode_head.in_channels = [WIDTH] * len(stages)
    for head in ('bbox_head', 'rpn_head'):
        if head in model:
            model[head].update(in_channels=WIDTH, feat_channels=WIDTH)
            if 'stacked_convs' in model[head]:
                model[head].stacked_convs = 1
    if 'roi_head' in model:
        model.roi_head.bbox_roi_extractor.out_channels = WIDTH
        model.roi_head.bbox_head.update(in_channels=WIDTH, fc_out_channels=WIDTH)


def _pipeline(steps: list[dict]) -> None:
    for step in steps:
        if 'scale' in step:
            step.scale = SCALE
        if 'crop_size' in step:
            step.crop_size = CROP


def _loop(train_cfg: dict) -> None:
    if 'max_iters' in train_cfg:
        train_cfg.update(max_iters=2, val_interval=2)
    else:
        train_cfg.max_epochs = 1
    if 'warmup_iters' in train_cfg:
        train_cfg.update(warmup_iters=1, arch_interval=1)


def _hook(hook: dict) -> None:
    if 'attack' in hook:
        if 'steps' in hook.attack:
            hook.attack.steps = 1
        if hook.get('begin'):
            hook.begin = 1
    if 'fallback' in hook:
        hook.interval = 1
    if 'bank' in hook:
        hook.update(bank='data/bank', iters=1, inner_steps=1, warm_start_iters=1, batch_size=2, num_workers=0)
        if hook.get('crop_size'):
            hook.crop_size = CROP
