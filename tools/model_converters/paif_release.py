"""Convert a checkpoint of the authors' release into one that ``tools/test.py`` loads.

    python tools/model_converters/paif_release.py RELEASED.pth OURS.pth
    python tools/test.py configs/paif/segformer_released_mfnet.py OURS.pth

A released checkpoint holds the fusion network (``enhance_net.*``) and an original SegFormer (``denoise_net.*``).
They become ``data_preprocessor.fusion.*`` (:class:`paif_mm.fusion.FusionNet`), ``backbone.*`` (mmseg's MiT) and
``decode_head.*`` (:class:`paif_mm.perception.released_head.ReleasedSegformerHead`). Left out, because the network
never uses them: ``denoise_net.classifier``, ``decompation.relu`` and MiT's classification head.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from paif_mm.arguments import Parser, output_folder
from paif_mm.compat import load_checkpoint_file
from paif_mm.mistakes import reports_mistakes
from paif_mm.weights import state_of

FUSION, SEGMENTATION = 'enhance_net.', 'denoise_net.'
OUR_FUSION = 'data_preprocessor.fusion.'

# Released name (start of the key, or the whole key) -> ours.
FUSION_MODULES = {
    'stem_1.': 'ir.stem.',
    'stem_2.': 'vis.stem.',
    'decompation.conv1x1_lf.': 'ir.decomposition.project.',
    'decompation.conv1x1_hf.': 'vis.decomposition.project.',
    'decompation.chain.': 'ir.chain.',
    'decompation.chain2.': 'vis.chain.',
    'spa.spatial.conv.': 'rule.conv.',
    'chain.': 'chain.',
    'stem_out.': 'head.',
}
OPERATION_MODULES = {
    '3-DB': {'conv1.conv': 'conv1', 'conv2.conv': 'conv2', 'conv3.conv': 'conv3', 'lrelu': 'act'},
    '3-DC': {'op.1.conv': 'depthwise', 'op.2': 'pointwise', 'op.3': 'norm'},
    '7-RB': {'op.0.conv': 'conv', 'op.1': 'dilated', 'op.2': 'pointwise', 'op.3': 'norm', 'op.4': 'act'},
    'CA': {'conv1': 'conv1', 'conv2.conv': 'conv2', 'se.conv': 'gate', 'relu': 'act'},
}
# The released genotype by place, spelled out: this maps one fixed network.
PLACES = {
    'ir.chain.0': '3-DB',
    'ir.chain.1': '3-DC',
    'vis.chain.0': '3-DB',
    'vis.chain.1': '3-DB',
    'chain.0': 'CA',
    'chain.1': '7-RB',
}
MLP_LAYERS = {'fc1': '0', 'dwconv.dwconv': '1', 'fc2': '4'}

StateDict = Mapping[str, Tensor]


def convert(released: StateDict) -> dict[str, Tensor]:
    """Convert a whole released state dict; raises :class:`ValueError` if a half is missing or a key is unknown."""
    fusion, segmentation = (_strip(released, prefix) for prefix in (FUSION, SEGMENTATION))
    for half, prefix in ((fusion, FUSION), (segmentation, SEGMENTATION)):
        if not half:
            raise ValueError(f"no key starts with '{prefix}': not a released PAIF checkpoint with both halves")
    return {
        **{OUR_FUSION + key: value for key, value in convert_fusion(fusion).items()},
        **convert_segformer(segmentation),
    }


def convert_fusion(released: StateDict) -> dict[str, Tensor]:
    """Rename the fusion network's state (released names without prefix) to :class:`~paif_mm.fusion.FusionNet`'s."""
    return {_fusion_key(key): value for key, value in released.items() if not key.startswith('decompation.relu.')}


def convert_segformer(released: StateDict) -> dict[str, Tensor]:
    """Convert ``encoder.*`` and ``decoder.*`` to mmseg's ``backbone.*`` and ``decode_head.*``."""
    encoder, decoder = _strip(released, 'encoder.'), _strip(released, 'decoder.')
    for half, name in ((encoder, 'encoder'), (decoder, 'decoder')):
        if not half:
            raise ValueError(f"no key starts with '{SEGMENTATION}{name}.': the SegFormer half is incomplete")
    unknown = [k for k in released if not k.startswith(('encoder.', 'decoder.', 'classifier.'))]
    if unknown:
        raise ValueError(f'unknown keys in the SegFormer half: {unknown[:5]}')
    return {
        **{f'backbone.{key}': value for key, value in convert_mit(encoder).items()},
        **{f'decode_head.{key}': value for key, value in convert_decoder(decoder).items()},
    }


def convert_mit(released: StateDict) -> dict[str, Tensor]:
    """Convert an original MiT's state to mmseg's ``MixVisionTransformer``; its classification head is left out.

    mmseg keeps query, key and value in one projection and writes the MLP's linear layers as 1x1 convolutions.
    """
    converted = {}
    for key, value in released.items():
        if key.startswith('head.') or '.attn.kv.' in key:
            continue  # 'kv' is taken along with 'q'
        if '.attn.q.' in key:
            value = torch.cat([value, released[key.replace('.attn.q.', '.attn.kv.')]])
        elif re.search(r'\.mlp\.fc[12]\.weight$', key):
            value = value[:, :, None, None]
        converted[_mit_key(key)] = value
    return converted


def convert_decoder(released: StateDict) -> dict[str, Tensor]:
    """Convert an original SegFormer decoder's state to ``ReleasedSegformerHead``'s.

    The linear layers become 1x1 convolutions. The original concatenates the deepest stage first, mmseg the
    shallowest: the fusing convolution's input blocks change order.
    """
    converted = {}
    for key, value in released.items():
        if match := re.fullmatch(r'linear_c([1-4])\.proj\.(weight|bias)', key):
            stage, kind = int(match[1]) - 1, match[2]
            converted[f'convs.{stage}.conv.{kind}'] = value[:, :, None, None] if kind == 'weight' else value
        elif key in ('linear_fuse.weight', 'linear_fuse.conv.weight'):
            converted['fusion_conv.conv.weight'] = torch.cat(value.chunk(4, dim=1)[::-1], dim=1)
        elif key in ('linear_fuse.bias', 'linear_fuse.conv.bias'):
            converted['fusion_conv.conv.bias'] = value
        elif key.startswith('linear_fuse.bn.'):
            converted[key.replace('linear_fuse.', 'fusion_conv.')] = value
        elif key.startswith('linear_pred.'):
            converted[key.replace('linear_pred.', 'conv_seg.')] = value
        else:
            raise ValueError(f"unknown key in the SegFormer decoder: '{key}'")
    return converted


def _strip(state: StateDict, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _fusion_key(key: str) -> str:
    for theirs, ours in FUSION_MODULES.items():
        if not key.startswith(theirs):
            continue
        rest = key.removeprefix(theirs)
        match = re.fullmatch(r'_ops\.([01])\._op\.(.+)\.(\w+)', rest)
        if not match:
            return ours + rest
        place = f'{ours}{match[1]}'
        module = OPERATION_MODULES[PLACES[place]].get(match[2])
        if module:
            return f'{place}.{module}.{match[3]}'
    raise ValueError(f"unknown key in the fusion half: '{key}' (another genotype than the released one?)")


def _mit_key(key: str) -> str:
    if match := re.fullmatch(r'patch_embed([1-4])\.(proj|norm)\.(\w+)', key):
        return f'layers.{int(match[1]) - 1}.0.{match[2].replace("proj", "projection")}.{match[3]}'
    if match := re.fullmatch(r'norm([1-4])\.(\w+)', key):
        return f'layers.{int(match[1]) - 1}.2.{match[2]}'
    if match := re.fullmatch(r'block([1-4])\.(\d+)\.(.+)\.(\w+)', key):
        stage, block, module, kind = match.groups()
        return f'layers.{int(stage) - 1}.1.{block}.' + _mit_block_key(module, kind, key)
    raise ValueError(f"unknown key in the SegFormer encoder: '{key}'")


def _mit_block_key(module: str, kind: str, key: str) -> str:
    if module in ('norm1', 'norm2', 'attn.sr', 'attn.norm'):
        return f'{module}.{kind}'
    if module == 'attn.q':
        return f'attn.attn.in_proj_{kind}'
    if module == 'attn.proj':
        return f'attn.attn.out_proj.{kind}'
    if module.removeprefix('mlp.') in MLP_LAYERS:
        return f'ffn.layers.{MLP_LAYERS[module.removeprefix("mlp.")]}.{kind}'
    raise ValueError(f"unknown key in the SegFormer encoder: '{key}'")


def load_released(path: str | Path) -> dict[str, Tensor]:
    """Read a released checkpoint, weights only (no code in the file is run).

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is no checkpoint.
        WeightsError: it holds no state dict.
    """
    return state_of(load_checkpoint_file(path, map_location='cpu'), str(path))


@reports_mistakes
def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', help="the authors' checkpoint")
    parser.add_argument('dst', help='where to write ours')
    args = parser.parse_args()
    output_folder(Path(args.dst).parent, 'DST')
    released = load_released(args.src)
    converted = convert(released)
    torch.save({'state_dict': converted, 'meta': {}}, args.dst)
    print(f'{len(released)} tensors read, {len(converted)} written to {args.dst}')
    print('left out as unused: denoise_net.classifier, decompation.relu; query and key/value projections were joined')


if __name__ == '__main__':
    main()
