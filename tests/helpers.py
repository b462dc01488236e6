"""Small models and batches that the tests share."""

import random
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import paif_mm  # noqa: F401

CLASSES = 9


def without_downloads(config) -> None:
    """Start a shipped config's backbone at random; skip the test where timm is to make it, and is not there."""
    backbone = config.model.get('backbone', {})
    backbone = backbone.get('stream', backbone)
    if backbone.get('type', '').endswith('TIMMBackbone'):
        pytest.importorskip('timm', reason='no timm: pip install -r requirements/weights.txt')
    if backbone.get('init_cfg'):
        backbone.init_cfg = None


def tiny_segformer(fusion: dict | None = None, **preprocessor) -> ConfigDict:
    """Config of a SegFormer that runs in milliseconds, behind a fusion network of 4 channels."""
    task = {
        'type': 'SegDataPreProcessor',
        'mean': [123.675, 116.28, 103.53],
        'std': [58.395, 57.12, 57.375],
        'bgr_to_rgb': True,
        'size_divisor': 8,
        'pad_val': 0,
        'seg_pad_val': 255,
    }
    return ConfigDict(
        type='EncoderDecoder',
        data_preprocessor={
            'type': 'paif_mm.FusionDataPreprocessor',
            'fusion': fusion or {'type': 'FusionNet', 'channels': 4},
            'task': task,
            **preprocessor,
        },
        backbone={
            'type': 'MixVisionTransformer',
            'in_channels': 3,
            'embed_dims': 8,
            'num_stages': 4,
            'num_layers': [1, 1, 1, 1],
            'num_heads': [1, 1, 1, 1],
            'patch_sizes': [7, 3, 3, 3],
            'sr_ratios': [8, 4, 2, 1],
            'out_indices': (0, 1, 2, 3),
            'mlp_ratio': 2,
            'drop_path_rate': 0.1,
        },
        decode_head={
            'type': 'SegformerHead',
            'in_channels': [8, 8, 8, 8],
            'in_index': [0, 1, 2, 3],
            'channels': 16,
            'dropout_ratio': 0.1,
            'num_classes': CLASSES,
            'norm_cfg': {'type': 'BN'},
            'align_corners': False,
            'loss_decode': {'type': 'CrossEntropyLoss', 'avg_non_ignore': True},
        },
        train_cfg={},
        test_cfg={'mode': 'whole'},
    )


def build_model(config: ConfigDict, seed: int = 0):
    init_default_scope('mmseg')
    torch.manual_seed(seed)
    model = MODELS.build(config)
    model.init_weights()
    return model


def pair_batch(sizes=((32, 40), (32, 40)), channels: int = 4, seed: int = 0, ignored: bool = True) -> dict:
    """A data batch of random pairs with random labels, some of them ignored, as a data loader makes it."""
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for height, width in sizes:
        inputs.append(torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8))
        label = torch.randint(0, CLASSES, (1, height, width), generator=generator)
        if ignored:
            label[:, :4] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        sample.set_metainfo({'img_shape': (height, width), 'ori_shape': (height, width), 'img_path': 'x.png'})
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


def deterministic(model):
    """No dropout, and no statistics that two processes would compute from half the batch each."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train = lambda mode=True, module=module: module
            module.training = False
        if isinstance(module, (torch.nn.Dropout, torch.nn.Dropout2d)):
            module.p = 0.0
        if hasattr(module, 'drop_prob'):
            module.drop_prob = 0.0
    return model


def backbone_form(config: ConfigDict) -> ConfigDict:
    """The same fused model with its fusion network inside the backbone."""
    before = config.data_preprocessor
    task = {key: value for key, value in before.task.items() if key not in ('mean', 'std', 'bgr_to_rgb')}
    backbone = {
        'type': 'paif_mm.FusionBackbone',
        'fusion': before.fusion,
        'backbone': config.backbone,
        'mean': before.task['mean'],
        'std': before.task['std'],
    }
    return ConfigDict({**config, 'data_preprocessor': task, 'backbone': backbone})


def tiny_fcos(fusion: dict | None = None, classes: int = 3) -> ConfigDict:
    """Config of an FCOS that runs in milliseconds, behind a fusion network of 4 channels."""
    task = {
        'type': 'DetDataPreprocessor',
        'mean': [123.675, 116.28, 103.53],
        'std': [58.395, 57.12, 57.375],
        'bgr_to_rgb': True,
        'pad_size_divisor': 8,
    }
    return ConfigDict(
        _scope_='mmdet',
        type='FCOS',
        data_preprocessor={
            'type': 'paif_mm.FusionDataPreprocessor',
            'fusion': fusion or {'type': 'FusionNet', 'channels': 4},
            'task': task,
        },
        backbone={'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'stem_channels': 8, 'norm_cfg': {'type': 'BN'}},
        neck={
            'type': 'FPN',
            'in_channels': [8, 16, 32, 64],
            'out_channels': 16,
            'start_level': 0,
            'end_level': 2,
            'num_outs': 3,
        },
        bbox_head={
            'type': 'FCOSHead',
            'num_classes': classes,
            'in_channels': 16,
            'feat_channels': 16,
            'stacked_convs': 1,
            'strides': [4, 8, 16],
            'regress_ranges': ((-1, 24), (24, 48), (48, 1e8)),
            'norm_cfg': {'type': 'GN', 'num_groups': 4},
        },
        test_cfg={
            'nms_pre': 100,
            'min_bbox_size': 0,
            'score_thr': 0.0,
            'nms': {'type': 'nms', 'iou_threshold': 0.5},
            'max_per_img': 20,
        },
    )


def box_batch(sizes=((32, 40), (32, 40)), channels: int = 4, seed: int = 0, scale: float = 1.0) -> dict:
    """A data batch of random pairs with two boxes each, in pixels of a file ``scale`` times as large."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for height, width in sizes:
        inputs.append(torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8))
        boxes = torch.tensor([[2.0, 3, 20, 25], [15, 5, width - 2, height - 3]]) * scale
        truth = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2]))
        sample = DetDataSample(gt_instances=truth)
        sample.set_metainfo(
            {
                'img_id': len(samples),
                'img_shape': (height, width),
                'ori_shape': (round(height * scale), round(width * scale)),
                'scale_factor': (1 / scale, 1 / scale),
                'img_path': 'x.png',
            }
        )
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


SEEDING = (
    'torch.manual_seed',
    'torch.random.manual_seed',
    'torch.seed',
    'torch.random.seed',
    'torch.cuda.manual_seed',
    'torch.cuda.manual_seed_all',
    'torch.cuda.random.manual_seed_all',
    'numpy.random.seed',
    'random.seed',
)


@contextmanager
def generators_untouched():
    """Fails where the code inside seeds a global generator, or leaves one in another state."""

    def states():
        name, keys, *rest = np.random.get_state()
        return torch.get_rng_state().tolist(), random.getstate(), name, keys.tolist(), rest

    def refused(*args, **kwargs):
        raise AssertionError('a global generator is seeded')

    before = states()
    with ExitStack() as stack:
        for name in SEEDING:
            stack.enter_context(patch(name, refused))
        yield
    assert states() == before
