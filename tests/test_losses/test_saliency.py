"""Saliency against hand-computed and brute-force values."""

import pytest
import torch

from paif_mm.losses import saliency, saliency_weights


def test_two_levels_by_hand():
    """3/4 black, 1/4 white: white differs from more pixels, so it is the salient one."""
    image = torch.zeros(1, 1, 2, 2)
    image[..., 1, 1] = 1
    assert saliency(image).flatten().tolist() == [0, 0, 0, 1]


def test_three_levels_by_hand():
    """Levels 0, 0, 51, 255: S = (306, 306, 306, 714); the middle one is as far from the rest as the dark ones."""
    image = torch.tensor([0, 0, 51, 255]).reshape(1, 1, 2, 2) / 255
    torch.testing.assert_close(saliency(image).flatten(), torch.tensor([0.0, 0, 0, 1]))
    image = torch.tensor([0, 102, 153, 255]).reshape(1, 1, 2, 2) / 255  # S = 510, 306, 306, 510
    assert saliency(image).flatten().tolist() == [1, 0, 0, 1]


def test_it_equals_the_sum_over_all_pixels():
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (3, 1, 9, 7), generator=generator)
    expected = []
    for image in levels:
        contrast = (image.flatten()[:, None] - image.flatten()).abs().sum(1).double()
        expected.append((contrast - contrast.min()) / (contrast.max() - contrast.min()))
    result = saliency(levels.double() / 255)
    torch.testing.assert_close(result.flatten(1), torch.stack(expected))


def test_values_count_as_the_nearest_of_256_levels():
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (1, 1, 9, 7), generator=generator).double()
    jitter = 0.98 * torch.rand(levels.shape, generator=generator, dtype=torch.float64) - 0.49
    assert torch.equal(saliency((levels + jitter) / 255), saliency(levels / 255))
    levels[..., 0, :2] = torch.tensor([0, 255])
    beyond = levels.clone()
    beyond[..., 0, :2] = torch.tensor([-20, 300])
    assert torch.equal(saliency(beyond / 255), saliency(levels / 255))


def test_each_image_spans_zero_to_one():
    contrasts = torch.tensor([1.0, 0.1, 2 / 255]).reshape(3, 1, 1, 1)
    result = saliency(contrasts * torch.rand(3, 1, 13, 5, generator=torch.Generator().manual_seed(0)))
    assert result.amin((1, 2, 3)).tolist() == [0, 0, 0]
    assert result.amax((1, 2, 3)).tolist() == [1, 1, 1]


def test_an_image_does_not_depend_on_its_batch():
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(saliency(images)[1:2], saliency(images[1:2]))


def test_an_image_of_equally_salient_pixels_is_nowhere_salient():
    assert not saliency(torch.full((1, 1, 4, 4), 0.3)).any()
    halves = torch.tensor([0.2, 0.9]).repeat(1, 1, 3, 2)
    assert not saliency(halves).any()


def test_weights_add_up_to_one_and_prefer_the_salient_source():
    ir, vis = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5)
    ir[..., 0, 0] = 1  # a hot spot
    weight_ir, weight_vis = saliency_weights(ir, vis)
    assert torch.equal(weight_ir + weight_vis, torch.ones_like(ir))
    assert weight_ir[0, 0, 0, 0] == 1
    assert weight_ir[0, 0, 1, 1] == 0.5


def test_it_carries_no_gradient():
    image = torch.rand(1, 1, 4, 4, requires_grad=True)
    assert not saliency(image).requires_grad


@pytest.mark.parametrize('shape', [(1, 3, 4, 4), (4, 4), (1, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r'\(N, 1, H, W\)'):
        saliency(torch.rand(shape))


@pytest.mark.gpu
def test_a_gpu_computes_the_same():
    images = torch.rand(2, 1, 33, 17, generator=torch.Generator().manual_seed(0))
    assert torch.equal(saliency(images.cuda()).cpu(), saliency(images))
