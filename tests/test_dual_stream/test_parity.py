"""The networks' modules against the outputs of those that their authors published, of the same random weights."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paif_mm.dual_stream import egfnet, gmnet, lasnet
from paif_mm.dual_stream.blocks import doubled

#: Of a convolution with batch norm, wherever it is: published names, and ours.
PARTS = {'conv': '0', 'bn': '1', 'basicconv': ''}


class Case(NamedTuple):
    """The same of our parts; names: beginnings of published weights' names -> part and name of ours."""

    parts: dict[str, nn.Module]
    names: dict[str, str]
    call: Callable[..., tuple[Tensor, ...]]


def decoder_of_lasnet() -> Case:
    neck = lasnet.LASNetNeck([4, 6, 8, 8, 10], [4, 6, 8, 8, 10], classes=3)
    parts = {'decode': neck.decode, 'last': neck.last, 'semantic': neck.semantic, 'head': nn.Conv2d(4, 3, 3, padding=1)}
    names = {f'decoder{level}': f'decode.{level - 2}' for level in (2, 3, 4, 5)}
    names |= {'decoder1.4': 'last.1', 'decoder1.5': 'head', 'decoder1': 'last.0', 'semantic_pred2': 'semantic'}

    class Passed(nn.Module):  # in the place of what narrows and fuses
        def forward(self, x, *_):
            return x

    neck.narrow = neck.fuse = nn.ModuleList([Passed()] * 5)

    def call(*levels):
        features, decoded, *_ = neck([(level, level) for level in reversed(levels)])
        return parts['head'](features), neck.semantic(decoded)

    return Case(parts, names, call)


def location_of_lasnet() -> Case:
    parts = {'location': lasnet.Location(8), 'saliency': nn.Conv2d(8, 2, 3, padding=1)}
    names = {
        'corr_x_2_x_ir.linear_e': 'location.visible.weight',
        'corr_x_2_x_ir.fusion': 'location.visible.smooth',
        'corr_ir_2_x_ir.linear_e': 'location.infrared.weight',
        'corr_ir_2_x_ir.fusion': 'location.infrared.smooth',
        'smooth1': 'location.sum',
        'smooth2': 'location.product',
        'fusion': 'location.merge',
        'pred': 'saliency',
    }

    def call(*inputs):
        found = parts['location'].gathered(*inputs)
        return found, parts['saliency'](found)

    return Case(parts, names, call)


def activation_of_lasnet() -> Case:
    parts = {'activation': lasnet.Activation(8)}
    names = {'conv2': 'activation.sum', 'sa.conv1': 'activation.place', 'cam.gamma': 'activation.gamma'}
    return Case(parts, names, lambda *inputs: (parts['activation'](*inputs),))


def sharpening_of_lasnet() -> Case:
    parts = {'sharpening': lasnet.Sharpening(8), 'boundary': nn.Conv2d(8, 2, 3, padding=1)}
    names = {'conv1': 'sharpening.product', 'conv2': 'sharpening.sum', 'fuse_dconv': 'sharpening.merge'}
    names |= {f'dconv{i + 1}': f'sharpening.dilated.{i}' for i in range(4)} | {'pred': 'boundary'}

    def call(*inputs):
        found = parts['sharpening'](*inputs)
        return found, parts['boundary'](found)

    return Case(parts, names, call)


def fusion_of_egfnet() -> Case:
    parts = {'fusion': egfnet.Fusion(8), 'side': egfnet._conv(8, 2)}
    names = {f'conv{i + 1}': f'fusion.dilated.{i}' for i in range(4)}
    names |= {'conv0': 'fusion.merge', 'conv': 'fusion.gather', 'convs': 'side'}
    names |= {'rconv': 'fusion.residual.0', 'rrconv': 'fusion.residual.1.0', 'rrbn': 'fusion.residual.1.1'}

    def call(*inputs):
        found = parts['fusion'](*inputs)
        return parts['side'](found), found

    return Case(parts, names, call)


def enhancement_of_egfnet() -> Case:
    parts = {'enhancement': egfnet.Enhancement(8)}
    names = {'conv': 'enhancement.map', 'rconv': 'enhancement.smooth.0', 'rconv0': 'enhancement.smooth.1.0'}
    names |= {'rbn': 'enhancement.smooth.1.1', 'convfinal': 'enhancement.last'}
    return Case(parts, names, lambda *inputs: (parts['enhancement'](*inputs),))


def context_of_egfnet() -> Case:
    parts = {'context': egfnet.Context(8)}
    names = {f'conv{i + 1}': f'context.dilated.{i}' for i in range(4)}
    names |= {'conv0': 'context.point', 'conv': 'context.gather', 'rconv': 'context.smooth'}
    return Case(parts, names, lambda x: (parts['context'](x),))


def semantic_of_egfnet() -> Case:
    parts = {'semantic': egfnet.Semantic(9)}
    names = {
        'convcat': 'semantic.merge',
        'rconv': 'semantic.smooth',
        'conv': 'semantic.last',
        'convedge': 'semantic.edge',
    }
    return Case(parts, names, lambda *inputs: (parts['semantic'](*inputs),))


def fusion_of_gmnet() -> Case:
    parts = {'fusion': gmnet.DenseFusion(16, 8)}
    names = {'fuse_down_mul': 'fusion.merge', 'res_main.down': 'fusion.down', 'res_main.denseblock': 'fusion.dense'}
    names |= {'res_main.fuse': 'fusion.up', 'fuse_main': 'fusion.narrow'}
    return Case(parts, names, lambda *inputs: (parts['fusion'].fused(*inputs),))


def context_of_gmnet() -> Case:
    parts = {'context': gmnet.Context(8)}
    names = {f'denseblock.{i}.cov': f'context.dense.{i}' for i in range(3)}
    names |= {'down': 'context.down', 'fuse': 'context.merge'}
    return Case(parts, names, lambda x: (parts['context'](x),))


def place_of_gmnet() -> Case:
    parts = {'place': gmnet.Place(8, 64)}
    names = {'conv1': 'place.strength', 'tp': 'place.narrow', 'ca.fc1': 'place.attend.1', 'ca.fc2': 'place.attend.3'}
    return Case(parts, names, lambda *inputs: (parts['place'](*inputs),))


def decoder_of_gmnet() -> Case:
    parts = {'decoder': gmnet.Decoder(8)}
    names = {f'block{i + 1}': f'decoder.{i}' for i in range(3)}
    return Case(parts, names, lambda x: (doubled(parts['decoder'](x), align_corners=True),))


CASES = {
    'lasnet/CLM': location_of_lasnet,
    'lasnet/CAM': activation_of_lasnet,
    'lasnet/ESM': sharpening_of_lasnet,
    'lasnet/decoder': decoder_of_lasnet,
    'egfnet/olm': fusion_of_egfnet,
    'egfnet/EM': enhancement_of_egfnet,
    'egfnet/ASPP': context_of_egfnet,
    'egfnet/seman': semantic_of_egfnet,
    'gmnet/DenseFuseLayer': fusion_of_gmnet,
    'gmnet/CMC': context_of_gmnet,
    'gmnet/LFE': place_of_gmnet,
    'gmnet/decoder': decoder_of_gmnet,
}
#: Weights that the published module has and does not use.
UNUSED = {'egfnet/olm': {'convf.weight', 'convf.bias'}}


def ours(name: str, names: dict[str, str]) -> str | None:
    """What we call a published weight."""
    for first, own in names.items():
        if name == first or name.startswith(f'{first}.'):
            rest = [PARTS.get(word, word) for word in name.removeprefix(first).split('.')]
            return '.'.join(filter(None, [own, *rest]))
    return None


@pytest.mark.realdata
@pytest.mark.parametrize('case', CASES)
def test_a_module_says_what_the_published_one_says(reference: Path, case):
    network, module = case.split('/')
    content = np.load(reference / f'{network}_modules_parity.npz')
    tensors = {key.removeprefix(f'{module}/'): content[key] for key in content if key.startswith(f'{module}/')}
    tensors = {key: torch.from_numpy(value) for key, value in tensors.items()}
    weights = {key.removeprefix('weight/'): value for key, value in tensors.items() if key.startswith('weight/')}
    inputs, outputs = (
        [tensors[key] for key in sorted(tensors) if re.match(rf'{kind}\d', key)] for kind in ('in', 'out')
    )

    parts, names, call = CASES[case]()
    parts = nn.ModuleDict(parts).double().eval()
    state = {ours(name, names): value for name, value in weights.items()}
    assert {name for name in weights if ours(name, names) is None} == UNUSED.get(case, set())
    state.pop(None, None)
    missing, unexpected = parts.load_state_dict(state, strict=False)
    assert not unexpected
    assert not [name for name in missing if not name.endswith('num_batches_tracked')]
    with torch.no_grad():
        found = call(*(value.double() for value in inputs))
    for own, published in zip(found, outputs, strict=True):
        torch.testing.assert_close(own, published.double(), rtol=0, atol=1e-5)


@pytest.mark.realdata
def test_every_published_module_is_compared(reference: Path):
    known = {
        f'{network}/{key.split("/")[0]}'
        for network in ('lasnet', 'egfnet', 'gmnet')
        for key in np.load(reference / f'{network}_modules_parity.npz').files
        if '/' in key
    }
    assert known == set(CASES)
