"""Weights of published networks, from files as their authors release them."""

import re
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from model_converters import fusion_zoo
from model_converters.fusion_zoo import MODULES, TENSORFLOW, convert
from tensorflow_files import write_bundle
from test_fusion.fusion_nets import pair
from test_fusion.test_zoo import network

from paif_mm.fusion import NETWORKS
from paif_mm.registry import MODELS, build

#: Networks as their authors' files are read, with the settings of ours.
FORMS = [*((name, {}) for name in NETWORKS), ('SDNet', {'decomposition': True}), ('ReCoNet', {'variant': 'paif'})]
#: Some of the authors' names and shapes of networks of which no weights are at hand, from the code that they publish.
THEIRS = {
    'DenseFuse': {
        'conv1.conv2d.weight': (16, 1, 3, 3),
        'DB1.denseblock.0.dense_conv.conv2d.weight': (16, 16, 3, 3),
        'DB1.denseblock.2.dense_conv.conv2d.bias': (16,),
        'conv2.conv2d.weight': (64, 64, 3, 3),
        'conv4.conv2d.weight': (16, 32, 3, 3),
        'conv5.conv2d.weight': (1, 16, 3, 3),
    },
    'IFCNN': {
        'conv1.weight': (64, 3, 7, 7),
        'conv2.conv.weight': (64, 64, 3, 3),
        'conv3.bn.running_var': (64,),
        'conv4.bias': (3,),
    },
    'SAGE': {
        'module1.0.weight': (32, 2, 3, 3),
        'module3.6.bias': (32,),
        'module5.7.running_mean': (32,),
        'adjust_channels4.0.weight': (32, 64, 1, 1),
        'adjust_channels5.1.weight': (32,),
        'final_decoder.0.weight': (1, 32, 3, 3),
    },
}


def released(name: str, net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A network's weights by its authors' names, and in their layout."""
    modules = MODULES[name]
    if name == 'ReCoNet':  # two of their networks are one of ours
        later = hasattr(net.dilated[0], 'weight')
        modules = {key: ours for key, ours in modules.items() if ours.startswith('att') or ('decoder' in key) == later}
    theirs, state = {ours: module for module, ours in modules.items()}, {}
    for key, value in net.state_dict().items():
        module, leaf = key.rsplit('.', 1)
        if name in TENSORFLOW:
            value = value.permute(2, 3, 1, 0) if value.dim() == 4 else value
            number = re.search(r'layer(\d_\w+)', theirs[module])
            leaf = f'{leaf[0]}{number[1]}' if number else {'weight': 'kernel'}.get(leaf, leaf)
        state[f'{theirs[module]}{"/" if name in TENSORFLOW else "."}{leaf}'] = value.contiguous()
    return state


def ids(form) -> str:
    return ' '.join([form[0], *form[1]])


@pytest.mark.parametrize('form', FORMS, ids=ids)
def test_every_weight_comes_back_in_its_place(form):
    name, settings = form
    net = network(name, dtype=torch.float32, **settings)
    state = released(name, net)
    found, told = convert(name, dict(reversed(state.items())))
    assert told == settings
    torch.testing.assert_close(dict(found.state_dict()), dict(net.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize('name', THEIRS)
def test_names_and_shapes_are_the_authors(name):
    state = released(name, network(name))
    assert {key: tuple(state[key].shape) for key in THEIRS[name]} == THEIRS[name]


def run(capsys, *words) -> str:
    with mock.patch.object(sys, 'argv', ['fusion_zoo.py', *map(str, words)]):
        fusion_zoo.main()
    return capsys.readouterr().out


def used(printed: str) -> torch.nn.Module:
    """The network of the setting that is printed last."""
    setting = printed.strip().splitlines()[-1]
    assert setting.startswith('fusion=dict(')
    made = {}
    exec(setting, made)
    net = build(MODELS, made['fusion'])
    net.init_weights()
    return net.eval()


@torch.no_grad()
def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    ir, vis = pair(1, 1, 9, 12, dtype=torch.float32)
    torch.testing.assert_close(one(ir, vis), other(ir, vis), rtol=0, atol=1e-6)


def test_a_file_is_converted_and_used_by_the_printed_setting(tmp_path, capsys):
    net = network('SeAFusion', dtype=torch.float32)
    unused = {f'decode4.bn.{key}': torch.ones(64) for key in ('weight', 'bias', 'running_mean', 'running_var')}
    torch.save({**released('SeAFusion', net), **unused}, tmp_path / 'SeAFusion.pth')
    printed = run(capsys, 'SeAFusion', tmp_path / 'SeAFusion.pth', tmp_path / 'made' / 'ours.pth')
    assert f'166,657 parameters of SeAFusion written to {tmp_path}/made/ours.pth' in printed
    same(used(printed), net)


def test_didfuse_comes_in_two_files(tmp_path, capsys):
    net = network('DIDFuse', dtype=torch.float32)
    state = released('DIDFuse', net)
    for file, numbers in (('Encoder', '1234'), ('Decoder', '567')):
        part = {key: value for key, value in state.items() if key[3] in numbers}
        torch.save({'weight': part, 'epoch': 120}, tmp_path / f'{file}.pkl')
    same(
        used(run(capsys, 'DIDFuse', *(tmp_path / f'{file}.pkl' for file in ('Encoder', 'Decoder')), tmp_path / 'o')),
        net,
    )
    with pytest.raises(SystemExit, match='Encoder.pkl does not fit DIDFuse: .* missing'):
        run(capsys, 'DIDFuse', tmp_path / 'Encoder.pkl', tmp_path / 'half.pth')
    assert not (tmp_path / 'half.pth').exists()


@pytest.mark.parametrize('name', TENSORFLOW)
def test_tensorflows_files_are_read_without_it(tmp_path, capsys, name):
    settings = {'SDNet': {'decomposition': True}}.get(name, {})
    net = network(name, dtype=torch.float32, **settings)
    state = {key: value.numpy() for key, value in released(name, net).items()}
    first = next(iter(state))
    state |= {f'{first}/{slot}': state[first] for slot in ('Adam', 'Adam_1')} | {'beta1_power': np.float32(0.9)}
    write_bundle(tmp_path / 'model-10', state)
    printed = run(capsys, name, tmp_path / 'model-10.index', tmp_path / 'ours.pth')
    assert ('decomposition=True' in printed) == bool(settings)
    same(used(printed), net)


def test_weights_inside_other_things_are_found(tmp_path, capsys):
    net = network('TarDAL', dtype=torch.float32)
    state = {f'module.{key}': value for key, value in released('TarDAL', net).items()}
    torch.save({'use_eval': True, 'fuse': {'g': state}, 'opt': {'lr': 0.1}}, tmp_path / 'v1.pth')
    same(used(run(capsys, 'TarDAL', tmp_path / 'v1.pth', tmp_path / 'ours.pth')), net)


@pytest.mark.parametrize(
    ('content', 'name', 'message'),
    [
        ('own', 'TarDAL', "unknown weight '.*': .*/own.pth is not of TarDAL"),
        (
            'twice',
            'UMFusion',
            'twice.pth holds the weights of 2 networks: save the state dict of',
        ),
        ('none', 'UMFusion', 'none.pth holds no weights: save the state dict'),
        ('less', 'UMFusion', r'/less.pth does not fit UMFusion: 1 missing \(head.0.bias\)'),
        ('own', 'SDNet', 'own.pth.index is not here: a checkpoint of TensorFlow is PREFIX.index'),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, capsys, content, name, message):
    state = released('UMFusion', network('UMFusion', dtype=torch.float32))
    kinds = {'own': state, 'twice': {'a': state, 'b': state}, 'none': {'epoch': 3}, 'less': dict(state)}
    kinds['less'].pop('out_conv.bias')
    torch.save(kinds[content], tmp_path / f'{content}.pth')
    with pytest.raises(SystemExit, match=message) as caught:
        run(capsys, name, tmp_path / f'{content}.pth', tmp_path / 'ours.pth')
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / 'ours.pth').exists()


def test_a_file_that_was_not_converted_is_told(tmp_path):
    torch.save(released('TarDAL', network('TarDAL')), tmp_path / 'tardal++.pt')
    net = build(
        MODELS, {'type': 'TarDAL', 'init_cfg': {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'tardal++.pt')}}
    )
    with pytest.raises(ValueError, match='convert it: python tools/model_converters/fusion_zoo.py TarDAL SRC DST'):
        net.init_weights()


def test_an_unknown_network_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(capsys, 'SeaFusion', tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert "invalid choice: 'SeaFusion'" in capsys.readouterr().err
