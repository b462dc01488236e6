"""Small models of two streams."""

from helpers import CLASSES
from mmengine.config import ConfigDict

RESNET = {'depth': 18, 'base_channels': 8, 'stem_channels': 8}
NETWORKS = {
    'LASNet': {'backbone': RESNET, 'channels': [8, 8, 8, 8, 8]},
    'EGFNet': {'backbone': RESNET, 'channels': 8},
    'GMNet': {'backbone': RESNET, 'channels': 16},
}
#: What each says, and its variants.
MODELS = ('LASNet', 'EGFNet', 'GMNet', 'LASNet-paif', 'EGFNet-paif', 'GMNet-paif', 'CMX')
PREPROCESSOR = {
    'type': 'SegDataPreProcessor',
    'mean': [103.53, 116.28, 123.675, 114.495],
    'std': [57.375, 57.12, 58.395, 57.63],
    'pad_val': 0,
    'seg_pad_val': 255,
    'size_divisor': 8,
}
TRANSFORMER = {
    'type': 'MixVisionTransformer',
    'embed_dims': 8,
    'num_layers': [1, 1, 1, 1],
    'num_heads': [1, 1, 2, 2],
    'patch_sizes': [7, 3, 3, 3],
    'sr_ratios': [8, 4, 2, 1],
}


def small(name: str, **settings) -> ConfigDict:
    """Config of one of :data:`MODELS`."""
    if name == 'CMX':
        return ConfigDict(
            type='EncoderDecoder',
            data_preprocessor=PREPROCESSOR,
            backbone={'type': 'paif_mm.CMX', 'stream': TRANSFORMER, 'num_heads': [1, 1, 2, 2]},
            decode_head={
                'type': 'SegformerHead',
                'in_channels': [8, 8, 16, 16],
                'in_index': [0, 1, 2, 3],
                'channels': 16,
                'dropout_ratio': 0.0,
                'num_classes': CLASSES,
                'loss_decode': {'type': 'CrossEntropyLoss', 'avg_non_ignore': True},
            },
            train_cfg={},
            test_cfg={'mode': 'whole'},
            **settings,
        )
    network, _, variant = name.partition('-')
    config = {'type': f'paif_mm.{network}', 'data_preprocessor': PREPROCESSOR, 'decode_head': {'num_classes': CLASSES}}
    return ConfigDict({**config, 'variant': variant or 'published', **NETWORKS[network], **settings})
