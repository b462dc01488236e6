"""Each operator of the fallback against its definition, through mmcv's own functions, with its gradients."""

import pytest
import torch
import torch.nn.functional as F

from paif_mm import compat

pytestmark = pytest.mark.skipif(
    compat.has_compiled_ops(), reason='the compiled mmcv is installed: nothing to fall back to'
)


def random(*shape, seed=0, grad=True):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.double, generator=generator).requires_grad_(grad)


def bilinear(image, y, x):
    """The value of (H, W) at a fractional place, 0 outside, written out."""
    total = 0.0
    for i in (int(y // 1), int(y // 1) + 1):
        for j in (int(x // 1), int(x // 1) + 1):
            if 0 <= i < image.size(0) and 0 <= j < image.size(1):
                total = total + (1 - abs(y - i)) * (1 - abs(x - j)) * image[i, j]
    return total


def deformed(x, offset, weight, mask=None, groups=1, deform_groups=1):
    """A 3x3 deformable convolution (padding 1) of (1, C, H, W), term by term."""
    _, channels, height, width = x.shape
    out = torch.zeros(1, weight.size(0), height, width, dtype=x.dtype)
    per_group, per_deform = channels // groups, channels // deform_groups
    for o in range(weight.size(0)):
        first = o // (weight.size(0) // groups) * per_group
        for c in range(per_group):
            d = (first + c) // per_deform
            for k in range(9):
                for y in range(height):
                    for z in range(width):
                        dy, dx = offset[0, (d * 9 + k) * 2, y, z], offset[0, (d * 9 + k) * 2 + 1, y, z]
                        place = float(y - 1 + k // 3 + dy), float(z - 1 + k % 3 + dx)
                        value = bilinear(x[0, first + c], *place) * weight[o, c, k // 3, k % 3]
                        out[0, o, y, z] += value * (1.0 if mask is None else mask[0, d * 9 + k, y, z])
    return out


@pytest.mark.parametrize(('groups', 'deform_groups'), [(1, 1), (2, 1), (1, 2)])
def test_deformable_convolution(groups, deform_groups):
    from mmcv.ops import deform_conv2d

    x, offset = random(1, 4, 4, 5), random(1, 18 * deform_groups, 4, 5, seed=1)
    weight = random(4, 4 // groups, 3, 3, seed=2)
    found = deform_conv2d(x, offset, weight, 1, 1, 1, groups, deform_groups)
    with torch.no_grad():
        torch.testing.assert_close(found, deformed(x, offset, weight, None, groups, deform_groups))
    assert torch.autograd.gradcheck(lambda *a: deform_conv2d(*a, 1, 1, 1, groups, deform_groups), (x, offset, weight))


def test_deformable_convolution_without_offsets_is_a_convolution_of_any_stride():
    from mmcv.ops import deform_conv2d

    x, weight = random(2, 4, 9, 8, grad=False), random(6, 4, 3, 3, seed=1, grad=False)
    expected = F.conv2d(x, weight, None, (2, 1), (1, 2), (1, 2))
    found = deform_conv2d(x, x.new_zeros(2, 18, *expected.shape[2:]), weight, (2, 1), (1, 2), (1, 2))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('bias', [False, True])
def test_modulated_deformable_convolution(bias):
    from mmcv.ops import modulated_deform_conv2d

    x, offset, mask = random(1, 2, 4, 5), random(1, 18, 4, 5, seed=1), random(1, 9, 4, 5, seed=2)
    weight, shift = random(3, 2, 3, 3, seed=3), random(3, seed=4) if bias else None

    def convolved(x, offset, mask, weight):
        return modulated_deform_conv2d(x, offset, mask, weight, shift, 1, 1)

    with torch.no_grad():
        expected = deformed(x, offset, weight, mask) + (0 if shift is None else shift[:, None, None])
        torch.testing.assert_close(convolved(x, offset, mask, weight), expected)
    assert torch.autograd.gradcheck(convolved, (x, offset, mask, weight))
    if bias:
        (gradient,) = torch.autograd.grad(convolved(x, offset, mask, weight).sum(), shift)
        torch.testing.assert_close(gradient, torch.full_like(shift, 20.0))


@pytest.mark.parametrize(('groups', 'scale', 'side'), [(1, 2, 3), (2, 2, 5), (3, 3, 1)])
def test_carafe_is_a_weighted_sum_over_windows(groups, scale, side):
    from mmcv.ops import carafe

    x, masks = random(2, 6, 3, 4), random(2, groups * side**2, 3 * scale, 4 * scale, seed=1)
    windows = F.unfold(x, side, padding=side // 2).view(2, groups, 6 // groups, side**2, 3, 4)
    seen = windows.repeat_interleave(scale, 4).repeat_interleave(scale, 5)
    expected = (seen * masks.view(2, groups, 1, side**2, 3 * scale, 4 * scale)).sum(3).flatten(1, 2)
    torch.testing.assert_close(carafe(x, masks, side, groups, scale), expected)
    assert torch.autograd.gradcheck(lambda *a: carafe(*a, side, groups, scale), (x, masks))


@pytest.mark.parametrize('kind', ['collect', 'distribute'])
def test_psa_mask_moves_relative_attention_to_its_pixels(kind):
    from mmcv.ops import PSAMask

    height, width, mask = 3, 4, (5, 3)
    x = random(2, mask[0] * mask[1], height, width)
    expected = torch.zeros(2, height * width, height, width, dtype=x.dtype)
    for y in range(height):
        for z in range(width):
            for i in range(mask[0]):
                for j in range(mask[1]):
                    a, b = y + i - mask[0] // 2, z + j - mask[1] // 2
                    if not (0 <= a < height and 0 <= b < width):
                        continue
                    value = x[:, i * mask[1] + j, y, z].detach()
                    if kind == 'collect':
                        expected[:, a * width + b, y, z] = value
                    else:
                        expected[:, y * width + z, a, b] = value
    operator = PSAMask(kind, mask)
    torch.testing.assert_close(operator(x).detach(), expected)
    assert torch.autograd.gradcheck(operator, x)


def test_masked_convolution_convolves_where_the_mask_is():
    from mmcv.ops import MaskedConv2d

    torch.manual_seed(0)
    layer, x = MaskedConv2d(3, 4, 3, padding=1).double(), random(1, 3, 5, 6, grad=False)
    mask = torch.zeros(1, 5, 6)
    mask[0, 1:3, 2:6] = 1
    with torch.no_grad():
        torch.testing.assert_close(layer(x, mask), F.conv2d(x, layer.weight, layer.bias, padding=1) * mask)
        assert not layer(x, torch.zeros_like(mask)).any()


def test_deformable_attention_as_gpus_ask_for_it():
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    shapes = torch.tensor([[3, 4], [2, 2]])
    value, places = random(1, 16, 2, 4), random(1, 5, 2, 2, 3, 2, seed=1).detach().sigmoid().requires_grad_()
    weights = random(1, 5, 2, 2, 3, seed=2)

    def attended(*args):
        return MultiScaleDeformableAttnFunction.apply(args[0], shapes, torch.tensor([0, 12]), *args[1:], 64)

    expected = multi_scale_deformable_attn_pytorch(value, shapes, places, weights)
    torch.testing.assert_close(attended(value, places, weights), expected)
    assert torch.autograd.gradcheck(attended, (value, places, weights))


BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [1, 0, 11, 10]])


def test_overlaps_of_boxes_by_hand():
    from mmcv.ops import bbox_overlaps

    matrix = bbox_overlaps(BOXES[:2], BOXES)
    torch.testing.assert_close(matrix, torch.tensor([[1, 0.5, 0, 90 / 110], [0.5, 1, 0, 45 / 105]]))
    torch.testing.assert_close(bbox_overlaps(BOXES[:2], BOXES[2:], aligned=True), torch.tensor([0, 45 / 105]))
    over_first = bbox_overlaps(BOXES[:2], BOXES[1:2], mode='iof')
    torch.testing.assert_close(over_first, torch.tensor([[0.5], [1.0]]))
    pixels = bbox_overlaps(torch.tensor([[0.0, 0, 1, 0]]), torch.tensor([[0.0, 0, 0, 0]]), offset=1)
    torch.testing.assert_close(pixels, torch.tensor([[0.5]]))


@pytest.mark.parametrize(
    ('method', 'decay'),
    [('naive', lambda o: 0.0 if o >= 0.6 else 1.0), ('linear', lambda o: 1 - o if o >= 0.6 else 1.0)]
    + [('gaussian', lambda o: torch.exp(torch.tensor(-o * o / 0.5)).item())],
)
def test_soft_nms_lowers_the_scores_of_neighbours(method, decay):
    """The fourth box is the best; the first overlaps it by 9/11, the second by 3/7 and the first by 1/2."""
    from mmcv.ops import soft_nms

    scores = torch.tensor([0.8, 0.7, 0.6, 0.9])
    left = {0: 0.8 * decay(9 / 11), 1: 0.7 * decay(3 / 7), 2: 0.6}
    expected = [(3, 0.9)]
    while left:
        best = max(left, key=left.get)
        expected.append((best, left.pop(best)))
        left = {i: s * decay(0.5) if {i, best} == {0, 1} else s for i, s in left.items()}
    expected = [(i, score) for i, score in expected if score >= 1e-3]
    dets, kept = soft_nms(BOXES, scores, 0.6, 0.5, 1e-3, method)
    assert kept.tolist() == [i for i, _ in expected]
    assert dets[:, 4].tolist() == pytest.approx([score for _, score in expected])
    assert torch.equal(dets[:, :4], BOXES[kept])


def test_matches_of_nms_are_groups_of_one_kept_box_each():
    from mmcv.ops import nms_match

    dets = torch.cat([BOXES, torch.tensor([[0.8], [0.7], [0.6], [0.9]])], 1)
    assert [group.tolist() for group in nms_match(dets, 0.6)] == [[3, 0], [1], [2]]
    assert [group.tolist() for group in nms_match(dets, 0.4)] == [[3, 0, 1], [2]]


def test_offsets_of_a_larger_map_are_read_in_the_outputs_size():
    """As compiled kernels do, which count their way through memory: DyHead's upper levels."""
    from mmcv.ops import modulated_deform_conv2d

    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*size, generator=generator) for size in ((2, 3, 4, 4), (5, 3, 3, 3)))
    offset, mask = (torch.randn(2, 9 * k, 8, 8, generator=generator).requires_grad_() for k in (2, 1))
    found = modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)
    first = [
        part.detach().reshape(2, -1)[:, : 9 * k * 16].reshape(2, 9 * k, 4, 4) for part, k in ((offset, 2), (mask, 1))
    ]
    torch.testing.assert_close(found, modulated_deform_conv2d(x, *first, weight, None, 1, 1))
    found.sum().backward()
    assert offset.grad.shape == offset.shape
    assert offset.grad.reshape(2, -1)[:, 18 * 16 :].abs().max() == 0
