"""The fusion network in front of a task's own preprocessor."""

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer
from mmengine.registry import MODELS, init_default_scope

import paif_mm.registry as paif_registry
from paif_mm.data.colour import bgr_to_luma, replace_luma, split_pair
from paif_mm.perception import FusionDataPreprocessor

SEG = {'type': 'SegDataPreProcessor', 'mean': [10.0, 20, 30], 'std': [1.0, 2, 3], 'bgr_to_rgb': True}


@paif_registry.MODELS.register_module()
class InfraredOnly(torch.nn.Module):
    """A fusion with a known answer: the infrared image is the luminance, times a trainable 1."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, ir, vis):
        return self.gain * ir


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def make(task=SEG, **kwargs) -> FusionDataPreprocessor:
    return FusionDataPreprocessor(fusion={'type': 'InfraredOnly'}, task=task, **kwargs)


def test_grey_pairs_give_the_infrared_image_normalised_by_the_task():
    batch = pair_batch([(4, 6)])
    batch['inputs'][0][:3] = 100  # no chrominance
    data = make()(batch, training=False)
    ir = batch['inputs'][0][3].float()
    expected = torch.stack([(ir - m) / s for m, s in ((10, 1), (20, 2), (30, 3))])
    torch.testing.assert_close(data['inputs'][0], expected, atol=1e-4, rtol=0)


def test_the_release_colour_formulas_are_kept():
    """By hand: R, G, B = .8, .4, .2 with its own luminance comes back, up to the rounding of the formulas."""
    bgr = torch.tensor([0.2, 0.4, 0.8]).reshape(3, 1, 1)
    luma = 0.299 * 0.8 + 0.587 * 0.4 + 0.114 * 0.2
    assert bgr_to_luma(bgr).item() == pytest.approx(luma)
    torch.testing.assert_close(replace_luma(bgr, bgr_to_luma(bgr)), bgr, atol=1e-3, rtol=0)
    cr, cb = 0.713 * (0.8 - luma), 0.564 * (0.2 - luma)
    expected = [0.5 + 1.773 * cb, 0.5 - 0.714 * cr - 0.344 * cb, 0.5 + 1.403 * cr]
    assert replace_luma(bgr, torch.full((1, 1, 1), 0.5)).flatten().tolist() == pytest.approx(expected, abs=1e-6)


SIZES = [(4, 6), (10, 12), (4, 6)]


def recording(preprocessor) -> list[tuple]:
    """The shapes that the fusion network is going to see."""
    shapes = []
    preprocessor.fusion.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    return shapes


def test_in_evaluation_images_are_fused_at_their_own_size():
    preprocessor = make()
    shapes = recording(preprocessor)
    for batch in (pair_batch(SIZES), pair_batch([(10, 12), (4, 6), (10, 12)])):
        preprocessor.fuse(batch['inputs'])
        assert sorted(group.index for group in preprocessor.groups) == [[0, 2], [1]]
    assert shapes == [(2, 1, 4, 6), (1, 1, 10, 12), (2, 1, 10, 12), (1, 1, 4, 6)]


@pytest.mark.parametrize(
    ('size', 'sizes', 'seen'),
    [
        ((16, 20), SIZES, (3, 1, 16, 20)),
        ((16, 20), [(4, 6)], (1, 1, 16, 20)),
        ((10, 12), [(10, 12)], (1, 1, 10, 12)),
        (None, SIZES, (3, 1, 10, 12)),
        (None, [(4, 12), (10, 6)], (2, 1, 10, 12)),
    ],
)
def test_in_training_the_network_sees_one_tensor_of_the_size_that_the_task_pads_to(size, sizes, seen):
    task = {**SEG, 'size': size, 'size_divisor': None if size else 1, 'pad_val': 0, 'seg_pad_val': 255}
    preprocessor = make(task=task)
    shapes = recording(preprocessor)
    batch = pair_batch(sizes)
    pairs = [image.float() / 255 for image in batch['inputs']]
    data = preprocessor(batch, training=True)
    assert shapes == [seen]
    assert data['inputs'].shape[2:] == seen[2:]
    for group in preprocessor.groups:
        for place, pair, luma in zip(group.index, group.pair, group.luma, strict=True):
            assert torch.equal(pair, pairs[place]), 'what the fusion loss compares is of the own size'
            torch.testing.assert_close(luma, pairs[place][3:])
    height, width = sizes[0]
    assert (data['data_samples'][0].gt_sem_seg.data[0, height:] == 255).all()
    assert not data['inputs'][0, :, height:].any(), 'the task pads as it did'


def test_batch_statistics_are_taken_once_over_the_extended_batch():
    """Known answer: the mean of a batch norm right behind the input is that of the pairs and their extended borders."""
    preprocessor = make(task={**SEG, 'size': (4, 4), 'pad_val': 0, 'seg_pad_val': 255})
    norm = torch.nn.BatchNorm2d(1, momentum=1.0)
    preprocessor.fusion = torch.nn.Module()
    preprocessor.fusion.norm, preprocessor.fusion.forward = norm, lambda ir, vis: norm(ir)
    batch = pair_batch([(2, 4), (4, 4), (4, 2)])
    preprocessor(batch, training=True)
    first, second, third = (image[3].float() / 255 for image in batch['inputs'])
    extended = [torch.cat([first, first[-1:], first[-1:]]), second, torch.cat([third, third[:, -1:], third[:, -1:]], 1)]
    torch.testing.assert_close(norm.running_mean, torch.stack(extended).mean()[None])
    assert norm.num_batches_tracked == 1


def test_in_evaluation_a_pair_is_independent_of_other_sizes_bit_for_bit():
    model = build_model(tiny_segformer()).eval()
    pairs = pair_batch([(32, 40), (48, 32), (40, 40)])['inputs']
    together = model.data_preprocessor.fuse(pairs)
    for pair, fused in zip(pairs, together, strict=True):
        assert torch.equal(model.data_preprocessor.fuse([pair])[0], fused)


@pytest.mark.parametrize('stretch', [False, True])
def test_a_pair_does_not_depend_on_its_batch(stretch):
    batch = pair_batch([(8, 8), (8, 8)])
    both = make(stretch=stretch)(batch, training=False)['inputs']
    one = make(stretch=stretch)({'inputs': batch['inputs'][1:], 'data_samples': batch['data_samples'][1:]})['inputs']
    torch.testing.assert_close(both[1], one[0])


def test_stretch_fills_the_range_of_each_image():
    preprocessor = make(stretch=True)
    batch = pair_batch([(8, 8), (8, 8)])
    batch['inputs'][1] //= 4
    preprocessor(batch)
    fused = preprocessor.groups[0].fused
    assert fused.amin((1, 2, 3)).tolist() == [0, 0]
    assert fused.amax((1, 2, 3)).tolist() == pytest.approx([1, 1])


def test_without_colours_the_model_sees_the_infrared_image_alone():
    batch = pair_batch([(4, 6), (4, 6)])
    preprocessor = make(grey=True)
    data = preprocessor(batch, training=False)
    for image, pair in zip(data['inputs'], batch['inputs'], strict=True):
        expected = torch.stack([(pair[3].float() - mean) / std for mean, std in ((10, 1), (20, 2), (30, 3))])
        torch.testing.assert_close(image, expected, atol=1e-4, rtol=0)
    pixels = batch['inputs'][0].float().requires_grad_()
    preprocessor({'inputs': [pixels], 'data_samples': [None]})['inputs'].sum().backward()
    assert pixels.grad[:3].abs().max() == 0, 'nothing for an attack in the visible image'
    assert pixels.grad[3].abs().min() > 0


def test_gradients_reach_the_fusion_network_and_the_pixels():
    preprocessor = make()
    pixels = pair_batch([(8, 8)])['inputs'][0].float().requires_grad_()
    preprocessor({'inputs': [pixels], 'data_samples': [None]})['inputs'].sum().backward()
    assert preprocessor.fusion.gain.grad != 0
    assert pixels.grad[3].abs().min() > 0


def test_plain_images_get_an_error_that_names_the_transform():
    with pytest.raises(ValueError, match=r'\(3, 8, 8\).*LoadPairFromFile'):
        make()(pair_batch([(8, 8)], channels=3))


def test_the_clean_pair_is_kept_beside_an_attacked_one():
    preprocessor = make()
    batch = pair_batch([(8, 8)])
    attacked = {**batch, 'inputs': [batch['inputs'][0].float() + 1], 'clean_inputs': batch['inputs']}
    preprocessor(attacked)
    (group,) = preprocessor.groups
    torch.testing.assert_close(group.pair - group.clean, torch.full_like(group.pair, 1 / 255))


@pytest.mark.parametrize(
    ('scope', 'task'),
    [
        ('mmseg', SEG),
        ('mmdet', {'type': 'DetDataPreprocessor', 'mean': [1.0, 2, 3], 'std': [1.0, 1, 1], 'pad_size_divisor': 32}),
        ('mmpretrain', {'type': 'ClsDataPreprocessor', 'mean': [1.0, 2, 3], 'std': [1.0, 1, 1], 'to_rgb': True}),
    ],
)
def test_it_wraps_the_preprocessor_of_each_library(scope, task):
    import mmdet.models  # noqa: F401
    import mmpretrain.models  # noqa: F401

    init_default_scope(scope)
    cfg = {'type': 'paif_mm.FusionDataPreprocessor', 'fusion': {'type': 'InfraredOnly'}, 'task': task}
    preprocessor = MODELS.build(cfg)
    inputs = [image.float() for image in pair_batch([(20, 24), (20, 24)])['inputs']]
    if scope == 'mmpretrain':  # it collates to one tensor
        data = preprocessor({'inputs': torch.stack(inputs)}, training=False)
    else:
        data = preprocessor({'inputs': inputs, 'data_samples': pair_batch([(20, 24)] * 2)['data_samples']})
    assert data['inputs'].shape[:2] == (2, 3)
    assert data['inputs'].shape[2] in (20, 32)


def test_a_plain_checkpoint_misses_only_the_fusion_network():
    fused = build_model(tiny_segformer())
    plain_config = tiny_segformer()
    plain_config.data_preprocessor = plain_config.data_preprocessor.task
    plain = build_model(plain_config)
    missing, unexpected = fused.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(key.startswith('data_preprocessor.fusion.') for key in missing)


def test_split_pair_takes_infrared_last():
    ir, visible = split_pair(torch.arange(4.0).reshape(1, 4, 1, 1))
    assert ir.flatten().tolist() == [3]
    assert visible.flatten().tolist() == [0, 1, 2]


def test_amp_keeps_the_fused_image_close():
    model = build_model(tiny_segformer())
    batch = pair_batch()
    exact = model.data_preprocessor(batch, training=False)['inputs']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = model.data_preprocessor(batch, training=False)['inputs']
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact, atol=0.15, rtol=0.05)


@pytest.mark.parametrize('prefix', [None, 'data_preprocessor.fusion', 'data_preprocessor.fusion.'])
def test_the_fusion_network_may_start_from_a_checkpoint(tmp_path, prefix):
    whole = build_model(tiny_segformer(), seed=1)
    source = whole.data_preprocessor.fusion
    torch.save((whole if prefix else source).state_dict(), tmp_path / 'fusion.pth')
    init = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'fusion.pth')}
    if prefix:
        init['prefix'] = prefix
    model = build_model(tiny_segformer(fusion={'type': 'FusionNet', 'channels': 4, 'init_cfg': init}), seed=2)
    loaded = model.data_preprocessor.fusion.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in source.state_dict().items())
