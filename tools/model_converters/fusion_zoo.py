"""Convert the weights of a published fusion network, as its authors release them, into ours.

    python tools/model_converters/fusion_zoo.py SeAFusion SeAFusion.pth seafusion.pth
    python tools/model_converters/fusion_zoo.py DIDFuse Encoder_weight_IJCAI.pkl Decoder_weight_IJCAI.pkl didfuse.pth
    python tools/model_converters/fusion_zoo.py SDNet IRVIS.model-10.index sdnet.pth

The last line that is printed is the setting of a config that takes the result. Files are read weights-only, those of
TensorFlow (SDNet, U2Fusion) without it. Left out is what a network never uses: SeAFusion's batch norms, and the states
of optimizers.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from paif_mm.arguments import Parser, output_folder
from paif_mm.compat import load_checkpoint_file
from paif_mm.fusion import NETWORKS, FusionNetwork
from paif_mm.mistakes import reports_mistakes
from paif_mm.tensorflow_bundle import read_bundle
from paif_mm.weights import load_weights, state_of

StateDict = Mapping[str, Tensor]


def _normed(theirs: str, ours: str, first: int = 0, last: int = 1) -> dict[str, str]:
    """A convolution and its batch norm, which they number."""
    return {f'{theirs}.{first}': f'{ours}.conv', f'{theirs}.{last}': f'{ours}.norm'}


#: Name -> their modules -> ours.
MODULES = {
    'U2Fusion': {
        'Generator/encoder/conv1_1': 'stem',
        **{f'Generator/encoder/dense_block_conv{i + 1}': f'dense.{i}' for i in range(5)},
        **{f'Generator_1/decoder/conv2_{i + 1}': f'decoder.{i}' for i in range(4)},
    },
    'DIDFuse': {
        **_normed('cov1.cov1', 'encoders.0.shallow.0', 1, 2),
        'cov1.cov1.3': 'encoders.0.shallow.1',
        **_normed('cov2.cov2', 'encoders.0.deep.0'),
        'cov2.cov2.2': 'encoders.0.deep.1',
        **_normed('cov3.cov3', 'encoders.0.base.0'),
        **_normed('cov4.cov4', 'encoders.0.detail.0'),
        **_normed('cov5.cov5', 'decoder.parts.0'),
        'cov5.cov5.2': 'decoder.parts.1',
        **_normed('cov6.cov6', 'decoder.deep.0'),
        'cov6.cov6.2': 'decoder.deep.1',
        **_normed('cov7.cov7', 'decoder.shallow.0', 1, 2),
    },
    'SDNet': {
        **{f'fusion_model/layer1_{theirs}': f'{ours}.stem' for theirs, ours in (('ir', 'ir'), ('vi', 'vis'))},
        **{
            f'fusion_model/layer{i + 2}_{theirs}': f'{ours}.dense.{i}'
            for theirs, ours in (('ir', 'ir'), ('vi', 'vis'))
            for i in range(3)
        },
        'fusion_model/layer5_fuse': 'squeeze',
        'fusion_model/layer6_sept': 'decomposition.expand.0',
        **{
            f'fusion_model/layer{i + 7}_{theirs}': f'decomposition.{ours}.{2 * i}'
            for theirs, ours in (('ir', 'ir'), ('vi', 'vis'))
            for i in range(3)
        },
    },
    'SeAFusion': {
        **{f'{theirs}_conv.conv': f'{ours}.0' for theirs, ours in (('inf', 'ir'), ('vis', 'vis'))},
        **{
            f'{theirs}_rgbd{i}.{module}': f'{ours}.{i + 1}.{name}'
            for theirs, ours in (('inf', 'ir'), ('vis', 'vis'))
            for i in (1, 2)
            for module, name in {
                'dense.conv1.conv': 'dense1',
                'dense.conv2.conv': 'dense2',
                'convdown.conv': 'project',
                'sobelconv.convx': 'sobel_x',
                'sobelconv.convy': 'sobel_y',
                'convup.conv': 'project_gradient',
            }.items()
        },
        'decode4.conv': 'merge',
        **{f'decode{3 - i}.conv': f'decoder.{2 * i + 1}' for i in range(3)},
    },
    'ReCoNet': {
        'att_a_conv': 'attention_ir',
        'att_b_conv': 'attention_vis',
        **{theirs: ours for i in range(3) for theirs, ours in _normed(f'dil_conv_{i + 1}', f'dilated.{i}').items()},
        **_normed('fus_conv', 'head.0'),
        **{f'decoder.conv_d.{i}.group.0': f'dilated.{i}' for i in range(3)},  # of the later fuser
        'decoder.conv_s.0': 'head.0',
    },
    'UMFusion': {
        **{f'conv{i + 1}_1.0': f'{ours}.0' for i, ours in enumerate(('ir', 'vis'))},
        **{
            f'{theirs}_path.0.dense_layers.{i}.conv': f'{ours}.2.dense.{i}'
            for theirs, ours in (('ir', 'ir'), ('vi', 'vis'))
            for i in range(3)
        },
        **{f'{theirs}_path.0.conv_1x1': f'{ours}.2.project' for theirs, ours in (('ir', 'ir'), ('vi', 'vis'))},
        'fuse.query_conv': 'query',
        'fuse.key_conv': 'key',
        'fuse.gamma1': 'weights_ir',
        'fuse.gamma2': 'weights_vis',
        'fuse_res': 'merge',
        'out_conv': 'head.0',
    },
    'TarDAL': {
        **_normed('encoder', 'stem'),
        **{theirs: ours for i in range(3) for theirs, ours in _normed(f'dense.{i}', f'dense.{i}').items()},
        'fuse.0.0': 'decoder.0',
        **_normed('fuse.1', 'decoder.2'),
        **_normed('fuse.2', 'decoder.4'),
        'fuse.3.0': 'decoder.6',
    },
    'DenseFuse': {
        'conv1.conv2d': 'stem',
        **{f'DB1.denseblock.{i}.dense_conv.conv2d': f'dense.{i}' for i in range(3)},
        **{f'conv{i + 2}.conv2d': f'decoder.{2 * i}' for i in range(4)},
    },
    'IFCNN': {
        'conv1': 'stem',
        **{f'conv{i}.conv': f'{ours}.0.conv' for i, ours in ((2, 'encoder'), (3, 'decoder'))},
        **{f'conv{i}.bn': f'{ours}.0.norm' for i, ours in ((2, 'encoder'), (3, 'decoder'))},
        'conv4': 'head',
    },
    'SAGE': {
        theirs: ours
        for module, stage in {1: 'down.0', 2: 'down.1', 3: 'down.2', 4: 'up.0', 5: 'up.1'}.items()
        for i in range(3)
        for theirs, ours in _normed(f'module{module}', f'{stage}.{2 * i}', 3 * i, 3 * i + 1).items()
    }
    | _normed('adjust_channels4', 'joins.0.0')
    | _normed('adjust_channels5', 'joins.1.0')
    | {'final_decoder.0': 'head.0'},
}
TENSORFLOW = ('SDNet', 'U2Fusion')
#: Name -> what of their weights has no part in their network's output.
UNUSED = {'SeAFusion': r'decode\d\.bn\.\w+', **dict.fromkeys(TENSORFLOW, r'.+/(Adam(_1)?|RMSProp(_1)?)|beta\d_power')}


def load_released(name: str, *paths: str | Path) -> dict[str, Tensor]:
    """Read what the authors of a network release, weights only (no code in a file is run).

    Raises:
        FileNotFoundError: a file is not there.
        RuntimeError: a file is no checkpoint of PyTorch's.
        BundleError: a file is no checkpoint of TensorFlow's.
        ValueError: a file holds no weights, or those of several networks.
    """
    if name in TENSORFLOW:
        return {key: value for path in paths for key, value in read_bundle(path).items()}
    released = {}
    for path in paths:
        states = list(_states(load_checkpoint_file(path, map_location='cpu')))
        if len(states) != 1:
            held = f'holds the weights of {len(states)} networks' if states else 'holds no weights'
            raise ValueError(f'{path} {held}: save the state dict of the fusion network alone')
        released.update(state_of(states[0], str(path)))
    return released


def convert(name: str, released: StateDict, where: str = 'the file') -> tuple[FusionNetwork, dict]:
    """The network of our zoo with the weights that its authors call otherwise, and the settings that it was built by.

    ``where`` they are from is for messages.

    Raises:
        ValueError: a weight is unknown.
        WeightsError: the weights are not those of this network, all of them.
    """
    state = {}
    for key, value in released.items():
        if re.fullmatch(UNUSED.get(name, ''), key):
            continue
        module, leaf = re.fullmatch(r'(?:(.+)[./])?(.+)', key).groups()
        if module not in MODULES[name]:
            raise ValueError(f"unknown weight '{key}': {where} is not of {name}")
        state[f'{MODULES[name][module]}.{_leaf(leaf)}'] = _layout(name, value)
    settings = _settings(name, released)
    network = NETWORKS[name](**settings)
    load_weights(network, state, where)
    return network, settings


def _settings(name: str, released: StateDict) -> dict:
    """How our network is built for weights of theirs."""
    if name == 'SDNet' and any('sept' in key for key in released):
        return {'decomposition': True}
    if name == 'ReCoNet' and any(key.startswith('decoder.') for key in released):
        return {'variant': 'paif'}
    return {}


def _leaf(name: str) -> str:
    """Our name of a weight: TensorFlow's are called kernel, bias, w1_ir, b1_ir."""
    if re.fullmatch(r'kernel|w\d_\w+', name):
        return 'weight'
    return 'bias' if re.fullmatch(r'b\d_\w+', name) else name


def _layout(name: str, value: Tensor) -> Tensor:
    """TensorFlow's kernels are (height, width, inputs, outputs)."""
    return value.permute(3, 2, 0, 1).contiguous() if name in TENSORFLOW and value.dim() == 4 else value


def _states(content) -> Iterator[StateDict]:
    """The state dicts in a file's content, at any depth."""
    if isinstance(content, Mapping) and content:
        if all(isinstance(value, Tensor) for value in content.values()):
            yield content
        else:
            for value in content.values():
                yield from _states(value)


@reports_mistakes
def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', choices=NETWORKS, metavar='NAME', help=', '.join(NETWORKS))
    parser.add_argument('src', nargs='+', help="the authors' file; two for DIDFuse; any of TensorFlow's three")
    parser.add_argument('dst', help='where to write ours')
    args = parser.parse_args()
    output_folder(Path(args.dst).parent, 'DST')
    network, settings = convert(args.name, load_released(args.name, *args.src), ', '.join(args.src))
    torch.save({'state_dict': network.state_dict(), 'meta': {}}, args.dst)
    settings = ''.join(f', {key}={value!r}' for key, value in settings.items())
    print(f'{sum(p.numel() for p in network.parameters()):,} parameters of {args.name} written to {args.dst}')
    print(
        f"fusion=dict(type='paif_mm.{args.name}'{settings}, init_cfg=dict(type='Pretrained', checkpoint='{args.dst}'))"
    )


if __name__ == '__main__':
    main()
