"""The converter of released checkpoints, against a SegFormer with the original's names."""

import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers import build_model, tiny_segformer
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from model_converters import paif_release
from test_fusion.fusion_nets import network
from test_fusion.released_segformer import SegFormer

from paif_mm.fusion import FusionNet

CONFIG = Path(__file__).parents[2] / 'configs' / 'paif' / 'segformer_released_mfnet.py'
WIDTHS, HEADS, DEPTHS = [8, 16, 24, 32], [1, 2, 3, 4], [1, 2, 1, 1]

# Our names -> released ones, written out from the released checkpoint, not derived from the converter's tables.
RELEASED = {
    'ir.stem.0.weight': 'stem_1.0.weight',
    'vis.stem.1.weight': 'stem_2.1.weight',
    'ir.decomposition.project.bias': 'decompation.conv1x1_lf.bias',
    'vis.decomposition.project.weight': 'decompation.conv1x1_hf.weight',
    'ir.chain.0.conv3.weight': 'decompation.chain._ops.0._op.conv3.conv.weight',
    'ir.chain.1.norm.running_var': 'decompation.chain._ops.1._op.op.3.running_var',
    'vis.chain.1.act.weight': 'decompation.chain2._ops.1._op.lrelu.weight',
    'chain.0.gate.weight': 'chain._ops.0._op.se.conv.weight',
    'chain.1.dilated.weight': 'chain._ops.1._op.op.1.weight',
    'rule.conv.weight': 'spa.spatial.conv.weight',
    'head.2.weight': 'stem_out.2.weight',
}


def released_fusion_names() -> dict[str, str]:
    """Every released name of the fusion network -> ours, by trying the converter on the names of release_facts."""
    operations = {
        '3-DB': ['conv1.conv.weight', 'conv2.conv.weight', 'conv3.conv.weight', 'lrelu.weight'],
        '3-DC': ['op.1.conv.weight', 'op.2.weight', *batch_norm('op.3')],
        '7-RB': ['op.0.conv.weight', 'op.1.weight', 'op.2.weight', *batch_norm('op.3'), 'op.4.weight'],
        'CA': ['conv1.weight', 'conv2.conv.weight', 'se.conv.weight', 'relu.weight'],
    }
    chains = {
        'decompation.chain.': ['3-DB', '3-DC'],
        'decompation.chain2.': ['3-DB', '3-DB'],
        'chain.': ['CA', '7-RB'],
    }
    names = [f'stem_{i}.{j}.weight' for i in (1, 2) for j in (0, 1)] + [f'stem_out.{i}.weight' for i in range(3)]
    names += [f'decompation.conv1x1_{part}.{kind}' for part in ('lf', 'hf') for kind in ('weight', 'bias')]
    names += ['spa.spatial.conv.weight']
    for chain, pair_of_operations in chains.items():
        for i, operation in enumerate(pair_of_operations):
            names += [f'{chain}_ops.{i}._op.{name}' for name in operations[operation]]
    index = torch.arange(len(names))
    ours = paif_release.convert_fusion(dict(zip(names, index, strict=True)))
    return {names[i]: key for key, i in ours.items()}


def batch_norm(name: str) -> list[str]:
    return [f'{name}.{key}' for key in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')]


def released_checkpoint(segformer: SegFormer, fusion: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = fusion.state_dict()
    return {
        **{f'enhance_net.{theirs}': state[ours] for theirs, ours in released_fusion_names().items()},
        'enhance_net.decompation.relu.weight': torch.tensor([0.25]),
        **{f'denoise_net.{key}': value for key, value in segformer.state_dict().items()},
    }


@pytest.fixture
def segformer() -> SegFormer:
    torch.manual_seed(0)
    model = SegFormer(WIDTHS, HEADS, DEPTHS, decoder_width=16, classes=9).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)  # so that no bias is 0 and no scale 1
    model.decoder.linear_fuse.bn.running_mean.normal_(0, 0.2)
    model.decoder.linear_fuse.bn.running_var.uniform_(0.5, 1.5)
    return model


def our_model(checkpoint: Path):
    """mmseg's SegFormer behind the fusion network, wired as in configs/paif/segformer_released_mfnet.py."""
    config = tiny_segformer({'type': 'FusionNet'}, stretch=True)
    config.backbone.update(embed_dims=8, num_heads=HEADS, num_layers=DEPTHS, mlp_ratio=4)
    config.decode_head.update(type='paif_mm.ReleasedSegformerHead', in_channels=WIDTHS)
    model = build_model(config).eval()
    load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    return model


def convert_file(state: dict, folder: Path) -> Path:
    torch.save(state, folder / 'released.pth')
    with mock.patch.object(sys, 'argv', ['paif_release.py', str(folder / 'released.pth'), str(folder / 'ours.pth')]):
        paif_release.main()
    return folder / 'ours.pth'


def test_config_for_released_weights_holds_exactly_the_converted_ones():
    """Full size: SegFormer MiT-B3 with its 256-channel decoder and 9 classes."""
    config = Config.fromfile(CONFIG)
    init_default_scope('mmseg')
    model = MODELS.build(config.model)
    with torch.device('meta'):
        original = SegFormer([64, 128, 320, 512], [1, 2, 5, 8], [3, 4, 18, 3], decoder_width=256, classes=9)
    released = released_checkpoint(original, network(dtype=torch.float32))
    converted = {key: value.shape for key, value in paif_release.convert(released).items()}
    assert converted == {key: value.shape for key, value in model.state_dict().items()}


def released_prediction(fusion: FusionNet, segformer: SegFormer, image: torch.Tensor) -> torch.Tensor:
    """Logits of the released pipeline for one B,G,R,IR image (4, H, W) in [0, 255]."""
    b, g, r, ir = (image.float() / 255)[:, None, None]
    y = 0.299 * r + 0.587 * g + 0.114 * b
    cr, cb = 0.713 * (r - y) + 0.5, 0.564 * (b - y) + 0.5
    y = fusion(ir, y)
    rgb = torch.cat(
        [y + 1.403 * (cr - 0.5), y - 0.714 * (cr - 0.5) - 0.344 * (cb - 0.5), y + 1.773 * (cb - 0.5)], 1
    ).clamp(0, 1)
    rgb = (rgb - rgb.min()) / (rgb.max() - rgb.min()) * 255
    mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])[:, None, :, None, None]
    return segformer((rgb - mean) / std)


def test_fusion_names_are_mapped_one_to_one():
    names = released_fusion_names()
    assert set(names.values()) == set(network().state_dict())
    assert len(set(names.values())) == len(names)
    assert {ours: names[theirs] for ours, theirs in RELEASED.items()} == {ours: ours for ours in RELEASED}


def test_converted_checkpoint_predicts_as_the_released_pipeline(segformer, tmp_path, capsys):
    fusion = network(dtype=torch.float32)
    model = our_model(convert_file(released_checkpoint(segformer, fusion), tmp_path))
    assert 'left out as unused: denoise_net.classifier, decompation.relu' in capsys.readouterr().out

    images = torch.rand(2, 3, 64, 96)
    pairs = [torch.randint(0, 256, (4, 64, 96), dtype=torch.uint8) for _ in range(2)]
    with torch.no_grad():
        for ours, original in zip(model.backbone(images), segformer.encoder(images), strict=True):
            torch.testing.assert_close(ours, original, rtol=0, atol=1e-4)
        torch.testing.assert_close(model(images, mode='tensor'), segformer(images), rtol=0, atol=1e-4)
        batch = model.data_preprocessor({'inputs': pairs, 'data_samples': None})
        expected = torch.cat([released_prediction(fusion, segformer, image) for image in pairs])
        torch.testing.assert_close(model(batch['inputs'], mode='tensor'), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('wrapped', [False, True], ids=['plain', 'state_dict and module prefix'])
def test_common_ways_of_saving_are_read(segformer, tmp_path, wrapped):
    state = released_checkpoint(segformer, network(dtype=torch.float32))
    saved = {'state_dict': {f'module.{key}': value for key, value in state.items()}} if wrapped else state
    torch.save(saved, tmp_path / 'released.pth')
    assert paif_release.load_released(tmp_path / 'released.pth').keys() == state.keys()


def test_fusing_convolution_without_batch_norm_keeps_its_bias():
    weight, bias = torch.randn(3, 12, 1, 1), torch.randn(3)
    converted = paif_release.convert_decoder({'linear_fuse.weight': weight, 'linear_fuse.bias': bias})
    assert converted.keys() == {'fusion_conv.conv.weight', 'fusion_conv.conv.bias'}
    assert torch.equal(converted['fusion_conv.conv.weight'][:, :3], weight[:, 9:])


BAD = {
    'no fusion half': (lambda k: k.startswith('denoise_net'), None, "no key starts with 'enhance_net.'"),
    'no segmentation half': (lambda k: k.startswith('enhance_net'), None, "no key starts with 'denoise_net.'"),
    'no decoder': (lambda k: 'decoder' not in k, None, "no key starts with 'denoise_net.decoder.'"),
    'foreign fusion key': (lambda k: True, 'enhance_net.chain._ops.0._op.other.weight', 'another genotype'),
    'foreign encoder key': (lambda k: True, 'denoise_net.encoder.pos_embed', "encoder: 'pos_embed'"),
    'foreign decoder key': (lambda k: True, 'denoise_net.decoder.aux.weight', "decoder: 'aux.weight'"),
}


@pytest.mark.parametrize(('keep', 'extra', 'message'), BAD.values(), ids=BAD)
def test_incomplete_or_foreign_checkpoint_is_refused(segformer, tmp_path, keep, extra, message):
    state = released_checkpoint(segformer, network(dtype=torch.float32))
    state = {key: value for key, value in state.items() if keep(key)}
    if extra:
        state[extra] = torch.zeros(1)
    with pytest.raises(SystemExit) as error:
        convert_file(state, tmp_path)
    assert message in str(error.value)
    assert not (tmp_path / 'ours.pth').exists()


def test_missing_file_and_foreign_content_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        paif_release.load_released(tmp_path / 'nothing.pth')
    torch.save({'epoch': 3}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='other.pth holds no weights'):
        paif_release.load_released(tmp_path / 'other.pth')
