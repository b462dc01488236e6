"""Segmentors of two streams: what they count, what their losses are of, and what reaches what."""

import re

import pytest
import torch
from conftest import REPO
from helpers import CLASSES, build_model, deterministic, pair_batch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from test_dual_stream.models import MODELS as NAMES
from test_dual_stream.models import PREPROCESSOR, RESNET, TRANSFORMER, small
from torch import Tensor

from paif_mm.apis.deployed import deployed
from paif_mm.apis.exporting import ENDINGS, errors, export, sizes_around
from paif_mm.attacks import PGD
from paif_mm.dual_stream.stages import stages_of
from paif_mm.evaluation.flops import count_flops
from paif_mm.losses.logits import plain_heads

PUBLISHED = NAMES[:3]
SIDES = {
    'LASNet': ['semantic', 'saliency', 'boundary'],
    'EGFNet': ['semantic', 'boundary3', 'boundary2', 'boundary1'],
    'GMNet': ['foreground', 'boundary'],
}
CONV_BN = 64 * 64 * 9 + 2 * 64
#: Parameters of the original code: all, those of the head, and those of its parts that no output ever sees.
ORIGINALS = {
    'LASNet': (93_575_604, 35_431_796, 0),
    'EGFNet': (62_817_972, 4_674_164, 5 * (128 * 64 + 64)),  # a 1x1 convolution of each fusion block
    'GMNet': (
        153_472_410,
        106_462_618,
        (64 + 256 + 128) * 64 + 3 * 64  # 1x1 convolutions of levels 1 and 2 and in the middle
        + CONV_BN
        + 2 * 2 * (4 * 32 * 32 * 3 + 2 * 2 * 32)  # two blocks of two branches of factorised convolutions
        + 3 * (CONV_BN + 2 * 64)  # a decoder
        + 3 * 64 * 64 + 64 * 9 + 9
        # an older head of 192 channels, for three outputs
        + (192 * 48 + 96 + 48 * 18 + 2)
        + (192 * 192 + 384 + 192 * 81 + 9)
        + (384 * 192 + 384 + 192 * 18 + 2)
        + (384 * 192 + 192 + 384 + 192 * 18 + 2),
    ),
}  # fmt: skip
#: Those of PAIF's versions that receive a gradient.
RELEASED = {'LASNet': 5_066_461, 'EGFNet': 3_168_329, 'GMNet': 8_986_272}


def parameters(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('name', PUBLISHED)
def test_networks_have_the_originals_parameters(name):
    init_default_scope('mmseg')
    config = {'type': f'paif_mm.{name}', 'decode_head': {'num_classes': 9}}
    with torch.device('meta'):
        model, released = MODELS.build(config), MODELS.build({**config, 'variant': 'paif'})
    everything, head, unused = ORIGINALS[name]
    assert parameters(model) == everything - unused
    assert parameters(model) - parameters(model.backbone) == head - unused
    assert parameters(released) == RELEASED[name]


@pytest.mark.slow
def test_the_page_says_what_the_shipped_networks_cost():
    init_default_scope('mmseg')
    page = (REPO / 'docs' / 'dual_stream.md').read_text()
    rows = re.findall(r'^\| `(\S+_mfnet)` \| (\S+) \| (\S+) \|$', page, re.MULTILINE)
    assert len(rows) == 7
    for name, flops, millions in rows:
        model = MODELS.build(Config.fromfile(REPO / 'configs' / 'dual_stream' / f'{name}.py').model)
        model = revert_sync_batchnorm(model).to('meta').eval()
        with torch.no_grad(), count_flops() as counter:
            model(torch.empty(1, 4, 480, 640, device='meta'))
        assert f'{counter.get_total_flops() / 1e9:.1f}' == flops
        assert f'{parameters(model) / 1e6:.2f}' == millions


def test_cmx_has_the_papers_parameters():
    """66.6 million with MiT-B2 and its decoder of 512 channels."""
    init_default_scope('mmseg')
    stream = {**TRANSFORMER, 'embed_dims': 64, 'num_layers': [3, 4, 6, 3], 'num_heads': [1, 2, 5, 8]}
    head = {'type': 'SegformerHead', 'in_channels': [64, 128, 320, 512], 'in_index': [0, 1, 2, 3], 'channels': 512}
    backbone = MODELS.build({'type': 'paif_mm.CMX', 'stream': stream})
    assert round((parameters(backbone) + parameters(MODELS.build({**head, 'num_classes': 40}))) / 1e6, 1) == 66.6


def loss_of(model, batch: dict) -> dict[str, Tensor]:
    data = model.data_preprocessor(batch, True)
    return {name: value for name, value in model(**data, mode='loss').items() if 'loss' in name}


@pytest.mark.parametrize('name', NAMES)
def test_a_training_reaches_every_parameter_and_both_modalities(name):
    model = build_model(small(name)).train()
    batch = pair_batch()
    inputs = batch['inputs'] = [image.float().requires_grad_() for image in batch['inputs']]
    losses = loss_of(model, batch)
    sum(losses.values()).backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    for image in inputs:
        assert (image.grad.abs().sum((1, 2)) > 0).all()
    sides = SIDES.get(name, [])
    expected = [f'aux_{place}.loss_{side}' for place, side in enumerate(sides)]
    decode = ['decode.loss_ce', *(['decode.loss_lovasz'] if 'LASNet' in name else [])]
    assert [*losses] == [*decode, *expected]
    assert all(value.isfinite() and value > 0 for value in losses.values())


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('size', [(53, 71), (33, 40)], ids=str)
def test_pairs_of_any_size_are_trained_on_and_segmented_alone_or_together(name, size):
    config = small(name)
    config.data_preprocessor.size_divisor = 1
    model = build_model(config).train()
    assert all(value.isfinite() for value in loss_of(model, pair_batch([size] * 2)).values())
    model.eval()
    with torch.no_grad():
        batch = pair_batch([size] * 2)
        together = [sample.seg_logits.data for sample in model.test_step(pair_batch([size] * 2))]
        assert together[0].shape == (CLASSES, *size)
        for i, logits in enumerate(together):
            part = {key: values[i : i + 1] for key, values in batch.items()}
            alone = model.test_step(part)[0].seg_logits.data
            torch.testing.assert_close(alone, logits, rtol=1e-4, atol=1e-4 * logits.abs().max().item())


@pytest.mark.parametrize('name', NAMES)
def test_each_modality_has_a_say(name):
    model = build_model(small(name)).eval()
    clean = pair_batch([(48, 64)])
    with torch.no_grad():
        before = model.test_step(clean)[0].seg_logits.data
        for channel in range(4):
            other = pair_batch([(48, 64)])
            other['inputs'][0][channel] = 255 - other['inputs'][0][channel]
            assert not torch.equal(model.test_step(other)[0].seg_logits.data, before)


@pytest.mark.parametrize('name', NAMES)
def test_attacks_find_a_higher_loss_of_what_is_predicted_within_their_budget(name):
    model = deterministic(build_model(small(name))).eval()
    batch = pair_batch([(32, 48)] * 2)
    attack = PGD(eps=8 / 255, steps=3)
    result = attack(model, batch)
    before = attack.losses(model, result.clean, result, batch)
    assert (result.losses > before).all()
    for attacked, clean in zip(result.images, result.clean, strict=True):
        change = (attacked - clean).abs().amax((1, 2))
        assert ((change > 0) & (change <= 8 + 1e-3)).all()


@pytest.mark.parametrize('name', PUBLISHED)
def test_side_outputs_are_made_for_their_losses_alone(name, monkeypatch):
    model = build_model(small(name)).eval()
    assert len(plain_heads(model)) == 1 + len(SIDES[name])

    def refused(*_):
        raise AssertionError('made for a prediction')

    monkeypatch.setattr(model.neck, 'sides', refused)
    with torch.no_grad():
        model.test_step(pair_batch())
    with pytest.raises(AssertionError, match='made for'):
        loss_of(model, pair_batch())


@pytest.mark.parametrize('name', NAMES)
def test_ignored_pixels_have_no_loss_and_no_gradient(name):
    model = deterministic(build_model(small(name))).eval()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)  # else all classes are as likely
    batch, other = pair_batch(), pair_batch()
    for sample in other['data_samples']:
        sample.gt_sem_seg.data[:, 4:12] = 255
    changed = [
        not torch.equal(a, b) for a, b in zip(*(loss_of(model, it).values() for it in (batch, other)), strict=True)
    ]
    assert all(changed), 'labels count for every loss'
    nothing = pair_batch()
    for sample in nothing['data_samples']:
        sample.gt_sem_seg.data[:] = 255
    losses = {key: value for key, value in loss_of(model, nothing).items() if 'lovasz' not in key}
    assert all(value == 0 for value in losses.values())


@pytest.mark.parametrize('name', PUBLISHED)
def test_losses_are_settings(name):
    own = {SIDES[name][-1]: {'type': 'CrossEntropyLoss', 'avg_non_ignore': True, 'loss_weight': 3.0}}
    plain, changed = (deterministic(build_model(small(name, **it))).eval() for it in ({}, {'side_losses': own}))
    changed.load_state_dict(plain.state_dict())
    before, after = loss_of(plain, pair_batch()), loss_of(changed, pair_batch())
    last = [*before][-1]
    torch.testing.assert_close(after.pop(last), 3 * before.pop(last))
    torch.testing.assert_close(after, before)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="LASNet has no variant 'pief': .*paif"):
        build_model(small('LASNet', variant='pief'))
    with pytest.raises(ValueError, match=r"side_losses of GMNet \(published\) has no 'bondary': .*boundary"):
        build_model(small('GMNet', side_losses={'bondary': {}}))
    with pytest.raises(ValueError, match=r"side_losses of EGFNet \(paif\) has no 'semantic': it has one output"):
        build_model(small('EGFNet-paif', side_losses={'semantic': {}}))
    with pytest.raises(ValueError, match='channels of GMNet must be a multiple of 16, not 24'):
        build_model(small('GMNet', channels=24))
    for channels in ([6, 8, 8, 8, 8], [8, 8, 8]):
        with pytest.raises(ValueError, match='channels of LASNet must be five'):
            build_model(small('LASNet', channels=channels))
    with pytest.raises(ValueError, match='must divide the channels of its stages'):
        MODELS.build({'type': 'paif_mm.CMX', 'stream': TRANSFORMER, 'num_heads': [1, 3, 2, 2]})
    with pytest.raises(TypeError, match='not of SwinTransformer'):
        MODELS.build({'type': 'paif_mm.CMX', 'stream': {'type': 'SwinTransformer', 'depths': [1] * 4}})


@pytest.mark.parametrize('name', NAMES)
def test_half_precision_and_channels_last_change_little(name):
    model = build_model(small(name)).eval()
    pairs = torch.randn(2, 4, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(pairs)
        last = model(pairs.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
        with torch.autocast('cpu', torch.bfloat16):
            half = model(pairs)
        assert (half - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_infrareds_own_resnet_starts_with_the_visible_ones_weights(tmp_path):
    source = build_model(small('GMNet')).backbone.visible
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'resnet.pth')
    pretrained = {**RESNET, 'init_cfg': {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'resnet.pth')}}
    backbone = build_model(small('GMNet', backbone=pretrained), seed=1).backbone
    weights, own = backbone.visible.state_dict(), backbone.infrared.state_dict()
    assert torch.equal(weights['conv1.weight'], source.conv1.weight)
    assert torch.equal(own.pop('conv1.weight'), weights.pop('conv1.weight').mean(1, keepdim=True))
    assert all(torch.equal(value, weights[key]) for key, value in own.items())


BACKBONES = {
    'ResNet': {'type': 'ResNet', **RESNET},
    'ResNetV1c': {'type': 'ResNetV1c', 'depth': 50, 'base_channels': 8, 'stem_channels': 8, 'out_indices': (1, 3)},
    'mmpretrain.ResNet': {'type': 'mmpretrain.ResNet', 'out_indices': (0, 1, 2, 3), **RESNET},
    'MobileNetV2': {'type': 'MobileNetV2', 'widen_factor': 0.25, 'out_indices': (1, 2, 4, 6)},
    'MixVisionTransformer': TRANSFORMER,
}


@pytest.mark.parametrize('name', BACKBONES)
def test_the_stages_of_a_backbone_are_the_backbone(name):
    init_default_scope('mmseg')
    backbone = MODELS.build(BACKBONES[name])
    backbone.eval()
    image = x = torch.randn(1, 3, 49, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = backbone(image)
        for stage, output in zip(stages_of(backbone), outputs, strict=True):
            x = stage(x)
            assert torch.equal(x, output)
            assert x.size(1) == stage.channels


@pytest.mark.parametrize('kind', ['mmpretrain.ResNet', 'ResNetV1c'])
def test_the_networks_take_other_resnets(kind):
    model = build_model(small('LASNet', backbone={'type': kind, **RESNET})).eval()
    assert model.backbone.channels == [8, 8, 16, 32, 64]
    assert model(torch.zeros(1, 4, 32, 32)).shape == (1, CLASSES, 32, 32)


def test_cmx_rectifies_by_the_other_modality():
    """x' = x + (w_C + w_S) y / 2 with weights of 1/2 each where nothing has been learned."""
    from paif_mm.dual_stream.cmx import Rectification

    rectify = Rectification(4)
    for parameter in rectify.parameters():
        torch.nn.init.zeros_(parameter)
    visible, infrared = torch.randn(2, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    found = rectify(visible, infrared)
    torch.testing.assert_close(found, (visible + infrared / 2, infrared + visible / 2))


def test_colours_are_turned_for_imagenets_weights():
    model = build_model(small('LASNet'))
    seen = []
    model.backbone.visible.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pairs = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 32, 32)
    model.eval().backbone(pairs)
    assert [image[0, :, 0, 0].tolist() for image in seen] == [[2, 1, 0], [3, 3, 3]]
    assert PREPROCESSOR['mean'][0] < PREPROCESSOR['mean'][2], 'of B,G,R'


FILES = [(name, 'torchscript') for name in NAMES] + [(name, 'onnx') for name in NAMES[:3]] + [('CMX', 'torch_export')]


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'form'), FILES)
def test_files_are_the_network_at_any_size(name, form, tmp_path):
    if form == 'onnx':
        for package in ('onnx', 'onnxruntime', 'onnxscript'):
            pytest.importorskip(package, reason='of requirements/export.txt')
    module = deployed(build_model(small(name)).eval())
    run = export(module, tmp_path / f'model{ENDINGS[form]}', form, (64, 96), {'classes': ['a']})
    for size in sizes_around((64, 96)):
        assert errors(module, run, size)['logits'] < 1e-4
    with torch.no_grad():  # and not of any model
        next(module.model.backbone.parameters()).mul_(2)
        next(module.model.decode_head.parameters()).add_(0.3)
    assert errors(module, run, (64, 96))['logits'] > 1e-3


def test_both_streams_of_cmx_start_with_the_pretrained_weights(tmp_path):
    source = build_model(small('CMX')).backbone.visible
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'mit.pth')
    config = small('CMX')
    config.backbone.stream = {
        **TRANSFORMER,
        'init_cfg': {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'mit.pth')},
    }
    backbone = build_model(config, seed=1).backbone
    for stream in (backbone.visible, backbone.infrared):
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in stream.state_dict().items())
    last = backbone.rectify[-1].channel[0].weight
    assert not torch.equal(last, build_model(small('CMX')).backbone.rectify[-1].channel[0].weight), 'others are drawn'
